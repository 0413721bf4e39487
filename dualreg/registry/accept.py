"""Accept: what manifests and layers a client reads.

Its Accept headers say most of it. The rest is known of releases of Docker and containerd, by their
User-Agent; all of that is in this module.
"""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from dualreg.image import media_types
from dualreg.image.editions import Family
from dualreg.image.platform import LINUX_AMD64, Platform

#: Docker's daemon, its release, and its system.  Source: moby, ``dockerversion/useragent.go``.
_DOCKER = re.compile(r"docker/(\d{1,4})\.(\d{1,4})[^ ]*(?: .*?os/(\w{1,20}) arch/(\w{1,20}))?", re.ASCII)
#: containerd and its release, also where it is a part of BuildKit: that in Docker 20.10 is 1.4.
#: Source: containerd, ``core/remotes/docker/resolver.go``.
_CONTAINERD = re.compile(r"containerd/v?(\d{1,4})\.(\d{1,4})", re.ASCII)
#: Its first release that reads zstd.  Source: containerd pull request 4809.
_CONTAINERD_ZSTD = (1, 5)
#: Programs that read a manifest to sign it, and run no image.
#: Source: cosign, ``cmd/cosign/cli/options/registry.go``; notation, ``cmd/notation/registry.go``.
_SIGNERS = ("cosign/", "notation/")
#: The first release of Docker that reads zstd, and those that name no media types and read only schema 1.
#: Source: moby pull request 44023; measured on 1.6 to 1.9.
_FIRST_ZSTD, _FIRST_SCHEMA1, _FIRST_SCHEMA2 = (23, 0), (1, 6), (1, 10)


@dataclass(frozen=True, slots=True)
class Agent:
    """What is known of a client by its User-Agent.

    Attributes:
        schema1_by_default: Whether it reads only schema 1 unless it names other types: Docker 1.6 to 1.9.
        zstd: Whether it may read layers compressed with zstd.
        platform: The system that it wants images for.
        signs: Whether it is a program that signs images.
        names_platform: Whether it says which system that is; else it is assumed.
    """

    schema1_by_default: bool = False
    zstd: bool = True
    platform: Platform = LINUX_AMD64
    signs: bool = False
    names_platform: bool = False

    @classmethod
    def of(cls, user_agent: str) -> "Agent":
        """Return what is known of the client that calls itself *user_agent*.

        Builds of Docker without a release call themselves 0.0, and are as new as any.
        """
        if user_agent.startswith(_SIGNERS):
            return cls(signs=True)
        match = _DOCKER.match(user_agent)
        if match is None:
            return _containerd(user_agent)
        release = int(match[1]), int(match[2])
        platform = Platform(match[3], match[4]) if match[3] else LINUX_AMD64
        is_old = (0, 0) < release < _FIRST_ZSTD
        by_default = _FIRST_SCHEMA1 <= release < _FIRST_SCHEMA2
        return cls(by_default, not is_old, platform, names_platform=bool(match[3]))


def _containerd(user_agent: str) -> Agent:
    match = _CONTAINERD.match(user_agent)
    is_old = match is not None and (0, 0) < (int(match[1]), int(match[2])) < _CONTAINERD_ZSTD
    return Agent(zstd=not is_old)


_ANY = Agent()
_BOTH = frozenset(Family)


@dataclass(frozen=True, slots=True)
class Accept:
    """What a client accepts.

    Attributes:
        types: The media types in its ``Accept`` headers; empty: it sends none.
        wildcard: Whether it also accepts any type; no client means schema 1 by that.
        as_stored: Whether it wants no conversion, whatever the type.
        agent: What is known of it besides.
    """

    types: frozenset[str] = frozenset()
    wildcard: bool = False
    as_stored: bool = False
    agent: Agent = _ANY

    @property
    def only_schema1(self) -> bool:
        """Whether the client reads nothing newer than schema 1."""
        if self.wildcard or not self.types:
            return self.agent.schema1_by_default
        named = self.types - {"application/json"}  # which says nothing about manifests
        return bool(named) and named <= media_types.SCHEMA1_TYPES

    @property
    def images(self) -> frozenset[Family]:
        """The families of image manifests that it reads; of a client that names neither, both."""
        return self._families(media_types.IMAGES)

    @property
    def indexes(self) -> frozenset[Family]:
        """The families of indexes that it reads; none, if it names image manifests alone."""
        if self.names(media_types.IMAGES) and not self.names(media_types.INDEXES) and not self.wildcard:
            return frozenset()
        return self._families(media_types.INDEXES)

    @property
    def newest(self) -> bool:
        """Whether it reads everything that it can be sent, but perhaps schema 1."""
        return self.images == self.indexes == _BOTH and self.agent.zstd

    def _families(self, types: AbstractSet[str]) -> frozenset[Family]:
        named = self.types & types
        return _BOTH if self.wildcard or not named else frozenset(map(Family.of, named))

    def names(self, choices: AbstractSet[str]) -> bool:
        """Return whether one of the media types *choices* is named."""
        return not self.types.isdisjoint(choices)
