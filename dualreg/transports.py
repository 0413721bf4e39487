"""The transports: where images can be imported from, exported to, or served from on demand.

One table says what each is called and how its locations are written. The settings, the commands, journals and
``migrate.transports``, which opens them, all ask this table.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

#: User and password in what was probably meant as a URL.
_LOGIN = re.compile(r"^([^/:@]*:(?://)?)?[^/]*@")


class LocationInvalid(ValueError):
    """No transport has such a location; the text says what was expected, and contains no password."""


class Use(StrEnum):
    """What a transport can be used for."""

    SOURCE = "source"
    TARGET = "target"
    ON_DEMAND = "on-demand source"


@dataclass(frozen=True, slots=True)
class Transport:
    """A kind of place that images are in.

    Attributes:
        name: What a location starts with, before the first colon.
        uses: How a location is written, for each use that is supported.
        generation: ``v1`` for V1 images, ``v2`` for manifests; empty if it depends on the content, or for a
            target that both generations can pull from.
        next_step: What to do with a target after the export; ``{}`` stands for its path or URL.
        schemes: URL schemes; empty if a location is a path.
    """

    name: str
    uses: Mapping[Use, str]
    generation: str = ""
    next_step: str = ""
    schemes: tuple[str, ...] = field(default=())


TRANSPORTS = (
    # The storage of docker-registry 0.5 to 0.9, or its configuration file.
    Transport(
        "v1-tree",
        {Use.SOURCE: "v1-tree:PATH", Use.ON_DEMAND: "v1-tree:PATH"},
        generation="v1",
    ),
    # The storage of the reference registry (distribution).
    Transport(
        "registry-tree",
        {
            Use.SOURCE: "registry-tree:PATH",
            Use.TARGET: "registry-tree:PATH",
            Use.ON_DEMAND: "registry-tree:PATH",
        },
        generation="v2",
        next_step="docker-registry serve, with rootdirectory: {}",
    ),
    # An OCI image layout.
    Transport(
        "oci-layout",
        {Use.SOURCE: "oci-layout:PATH", Use.TARGET: "oci-layout:PATH"},
        generation="v2",
        next_step="skopeo copy oci:{}:NAME docker://HOST/NAME",
    ),
    # The same in tar archives of a limited size, with an inventory.
    Transport(
        "volumes",
        {Use.SOURCE: "volumes:PATH", Use.TARGET: "volumes:PATH"},
        generation="v2",
        next_step="dualreg migrate run volumes:{}, where the volumes are taken",
    ),
    # A file for docker save and docker load.
    Transport(
        "docker-archive",
        {Use.SOURCE: "docker-archive:FILE", Use.TARGET: "docker-archive:FILE"},
        next_step="docker load --input {}",
    ),
    # Files from which a plain web server serves pulls.
    Transport(
        "static-tree",
        {Use.TARGET: "static-tree:PATH"},
        next_step="nginx, with include {}/nginx.conf",
    ),
    # A remote registry, over the V1 API.
    Transport(
        "v1",
        {Use.SOURCE: "v1+http(s)://HOST[/REPOSITORY]"},
        generation="v1",
        schemes=("v1+http", "v1+https"),
    ),
    # A remote registry, over the V2 API.
    Transport(
        "v2",
        {Use.SOURCE: "v2+http(s)://HOST[/REPOSITORY]", Use.TARGET: "v2+http(s)://HOST[/PREFIX]"},
        generation="v2",
        next_step="pull from {}",
        schemes=("v2+http", "v2+https"),
    ),
)


class Location(NamedTuple):
    """A place that images are in.

    Attributes:
        rest: What follows the first colon. In a path, ``~`` is replaced by the home directory; shells do that
            at the start of a word only.
    """

    transport: Transport
    scheme: str
    rest: str

    @property
    def url(self) -> str:
        """The URL of a remote registry."""
        return f"{self.scheme.partition('+')[2]}:{self.rest}"

    @property
    def next_step(self) -> str:
        """What to do with this target after the export."""
        return self.transport.next_step.format(self.url if self.transport.schemes else self.rest)


def grammars(use: Use) -> Sequence[str]:
    """Return how the locations of all transports with that use are written."""
    return [transport.uses[use] for transport in TRANSPORTS if use in transport.uses]


def parse_location(text: str, use: Use) -> Location:
    """Return the location that *text* names.

    Raises:
        LocationInvalid: no transport with that use has such locations.
    """
    scheme, _, rest = text.partition(":")
    transport, shown = _find(scheme), _LOGIN.sub(r"\1***@", text)
    if transport is None or use not in transport.uses:
        raise LocationInvalid(f'unknown {use} "{shown}"; expected {", ".join(grammars(use))}')
    if not rest.removeprefix("//" if transport.schemes else ""):
        missing = "host" if transport.schemes else "path"
        raise LocationInvalid(f'missing {missing} in "{shown}"; expected {transport.uses[use]}')
    if transport.schemes and not rest.startswith("//"):
        raise LocationInvalid(f'invalid URL "{shown}"; expected {transport.uses[use]}')
    return Location(transport, scheme, rest if transport.schemes else os.path.expanduser(rest))  # noqa: PTH111 -- "-" and text stay


def is_remote(text: str) -> bool:
    """Return whether *text* names a remote registry, as opposed to a path."""
    transport = _find(text.partition(":")[0])
    return transport is not None and bool(transport.schemes)


def _find(scheme: str) -> Transport | None:
    return next((each for each in TRANSPORTS if scheme in (each.schemes or (each.name,))), None)
