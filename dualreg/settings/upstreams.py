"""Upstreams: the registries whose content is served under names of this one, as ``upstreams`` says.

In the configuration file, each is a table such as ``[upstreams."hub/*"]``; in the environment, all of them
are one text: ``hub/*=https://registry-1.docker.io, ghcr/*=https://ghcr.io``, or the tables as JSON.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dualreg.settings.values import ByteCount, Duration, HomePath, Kept, Patterns, Texts, json_tables

#: The prefix of an upstream's repositories; ``*`` alone stands for all names.
_PATTERN = re.compile(r"(?:[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*/)*\*", re.ASCII)
#: Docker Hub: its registry, and what clients call it.
_HUB, _HUB_NAMES = "registry-1.docker.io", ("docker.io", "index.docker.io")
_HUB_TOKENS = "auth.docker.io"


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        invalid = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        invalid = True
    if invalid:
        raise ValueError("expected a URL that starts with http:// or https://")
    if parts.username is not None or parts.query or parts.fragment or parts.path.strip("/"):
        raise ValueError(
            "expected a URL such as https://ghcr.io, with nothing but a host and a port; "
            "give username and password_file beside it"
        )
    return value.rstrip("/")


def _platforms(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if not re.fullmatch(r"[a-z0-9]+/[a-z0-9_]+(?:/[a-z0-9.]+)?", each, re.ASCII):
            raise ValueError("expected platforms such as linux/amd64 or linux/arm/v7")
    return value


class UpstreamSettings(BaseModel):
    """One registry whose content is served here.

    Attributes:
        url: ``http(s)://HOST[:PORT]``.
        namespaces: Hosts by which clients mean it, in ``?ns=`` or ``OCI-Namespace``; default: that of the
            URL, and ``docker.io`` for Docker Hub.
        username, password_file: Its credentials; the file is read again when it changes.
        api: Which API it has.
        ca: PEM file of the authorities that its certificate is verified by; default: the system's.
        token_servers: Hosts, besides its own, whose token servers may receive the credentials.
        redirect_hosts: Hosts that it may lead to though their addresses are not public.
        check_interval: How often it is asked whether a tag has changed.
        repositories: Patterns of the only repositories that are served, by their names there; default: all.
        platforms: The only platforms that are served of indexes; default: all.
        connections: How many requests may wait for it at once; 0: half of the threads.
        rate: Bytes in a second that are downloaded from it; 0: no limit.
        keep: How long images stay after they were last pulled.
        keep_size: Bytes of its images that stay; 0: no limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(_url)]
    namespaces: Texts = ()
    username: str = ""
    password_file: HomePath | None = None
    api: Literal["v1", "v2"] = "v2"
    ca: HomePath | None = None
    token_servers: Texts = ()
    redirect_hosts: Texts = ()
    check_interval: Duration = Field("5m", validate_default=True)
    repositories: Patterns = ()
    platforms: Annotated[Texts, AfterValidator(_platforms)] = ()
    connections: int = Field(0, ge=0, le=1000)
    rate: ByteCount = Field(0, ge=0)
    keep: Kept = Field("keep", validate_default=True)
    keep_size: ByteCount = Field(0, ge=0)

    @model_validator(mode="after")
    def _check_credentials(self) -> "UpstreamSettings":
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file are only valid together")
        return self

    @property
    def is_hub(self) -> bool:
        """Whether it is Docker Hub, where ``alpine`` is short for ``library/alpine``."""
        return urlsplit(self.url).hostname == _HUB

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts by which clients mean it."""
        return self.namespaces or (urlsplit(self.url).netloc, *(_HUB_NAMES if self.is_hub else ()))

    @property
    def trusted_token_servers(self) -> tuple[str, ...]:
        """The hosts, besides its own, whose token servers may receive the credentials."""
        return (*self.token_servers, *((_HUB_TOKENS,) if self.is_hub else ()))


def _tables(value: object) -> object:
    """Return the short form as tables, and a table that is only a URL as one."""
    value = json_tables(value)
    if isinstance(value, str):
        entries = [entry.strip().partition("=") for entry in value.split(",") if entry.strip()]
        if not all(url for _, _, url in entries):
            raise ValueError("expected PATTERN=URL, separated by commas, such as hub/*=https://ghcr.io")
        value = {pattern.strip(): url.strip() for pattern, _, url in entries}
        if len(value) < len(entries):
            raise ValueError("the same pattern is given twice")
    if isinstance(value, Mapping):
        return {pattern: {"url": each} if isinstance(each, str) else each for pattern, each in value.items()}
    return value


def _checked(value: dict[str, UpstreamSettings]) -> dict[str, UpstreamSettings]:
    """Check that each name, and each name of a registry, means one upstream."""
    for pattern in value:
        if not _PATTERN.fullmatch(pattern):
            raise ValueError(f'invalid pattern "{pattern}": expected a prefix such as hub/*, or * alone')
    known = dict[str, str]()
    for pattern, each in value.items():
        for host in each.hosts:
            if other := known.get(host):
                raise ValueError(
                    f'both "{other}" and "{pattern}" have the namespace {host}; give them namespaces'
                )
            known[host] = pattern
    return value


def _peers(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_url, values))


Peers = Annotated[Texts, AfterValidator(_peers)]
Upstreams = Annotated[dict[str, UpstreamSettings], BeforeValidator(_tables), AfterValidator(_checked)]
