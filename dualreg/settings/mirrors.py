"""Mirror rules: the tables ``[mirrors.NAME]`` of the configuration file."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dualreg.settings.schedules import ScheduleText
from dualreg.settings.values import HomePath, Patterns, Texts, json_tables
from dualreg.transports import Location, LocationInvalid, Use, parse_location

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
_PREFIX = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", re.ASCII)
_PLATFORM = re.compile(r"[a-z0-9*]+/[a-z0-9*]+(?:/[a-z0-9*]+)?", re.ASCII)


def _platforms(values: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [each for each in values if not _PLATFORM.fullmatch(each)]:
        raise ValueError(f'invalid platform "{wrong[0]}"; expected OS/ARCH or OS/ARCH/VARIANT')
    return values


def _prefix(value: str) -> str:
    if value and not _PREFIX.fullmatch(value):
        raise ValueError("expected the beginning of repository names, such as hub or mirror/hub")
    return value


class MirrorRule(BaseModel):
    """What is copied from another registry (``pull``), or to one (``push``), and when."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pull: str = Field("", description="SOURCE as of migrate run")
    push: str = Field("", description="TARGET as of export")
    include: Patterns = Field((), description="patterns of REPOSITORY[:TAG]; default: all")
    exclude: Patterns = Field((), description="patterns of REPOSITORY[:TAG] that are left out")
    latest: int | None = Field(None, ge=1, description="only so many tags of each repository, the latest")
    platforms: Annotated[Texts, AfterValidator(_platforms)] = Field(
        (), description="OS/ARCH[/VARIANT] of the images of indexes; default: all"
    )
    prefix: Annotated[str, AfterValidator(_prefix)] = Field(
        "", description="what names of repositories begin with in this registry"
    )
    schedule: ScheduleText = Field(
        "", description="how often, or at which time of day, the server copies; default: never"
    )
    username: str = Field("", description="login at the other registry")
    password_file: HomePath | None = Field(None, description="file whose first line is the password")
    ca: HomePath | None = Field(None, description="certificate authorities of the other registry, in PEM")
    token_servers: Texts = Field((), description="hosts that may get the password, too")
    redirect_hosts: Texts = Field((), description="hosts of redirects that are not public")
    jobs: int = Field(2, ge=1, le=256, description="how many tags at a time")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.pull) == bool(self.push):
            raise ValueError("expected either pull or push")
        if self.push and (self.latest or self.prefix):
            raise ValueError("latest and prefix are for pull; a prefix of push is part of its URL")
        if bool(self.username) != bool(self.password_file):
            raise ValueError("username and password_file are only valid together")
        try:
            self.location  # noqa: B018 -- it raises
        except LocationInvalid as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def location(self) -> Location:
        """The other registry.

        Raises:
            LocationInvalid.
        """
        return parse_location(self.pull or self.push, Use.SOURCE if self.pull else Use.TARGET)


def _named(rules: dict[str, MirrorRule]) -> dict[str, MirrorRule]:
    if wrong := [name for name in rules if not _NAME.fullmatch(name)]:
        raise ValueError(f'invalid name "{wrong[0]}"; expected lower-case letters, digits and any of ._-')
    return rules


Mirrors = Annotated[dict[str, MirrorRule], BeforeValidator(json_tables), AfterValidator(_named)]
