"""Login issuers: the tables ``[login_issuers.NAME]`` of the configuration file, by which people log in."""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from dualreg.settings.values import Duration, HomePath, Issuer, Texts, json_tables

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_PREFIX = re.compile(r"(?:[a-z0-9]+[._+-])?", re.ASCII)
#: The longest that a browser stays logged in.
_LONGEST_SESSION = timedelta(days=7)
#: The shortest time after which people have to log in again: less would end keys while they are used.
_SHORTEST_RENEWAL = timedelta(hours=1)


def _domains(values: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [each for each in values if "@" in each or "." not in each]:
        raise ValueError(f'invalid domain "{wrong[0]}"; expected one such as example.com')
    return tuple(map(str.lower, values))


def _groups(values: dict[str, str]) -> dict[str, str]:
    if wrong := [each for each in values.values() if not _GROUP.fullmatch(each)]:
        raise ValueError(f'invalid group "{wrong[0]}"; use letters, digits and ._-')
    return values


def _session(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= _LONGEST_SESSION:
        raise ValueError("expected 7d at most")
    return value


def _renewal(value: timedelta) -> timedelta:
    if value < _SHORTEST_RENEWAL:
        raise ValueError("expected 1h or more")
    return value


class LoginIssuerSettings(BaseModel):
    """An OpenID Connect issuer by which people log in, and what is made of its claims."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Issuer = Field(min_length=1, description="URL of the issuer")
    client_id: str = Field(min_length=1, description="as which this registry is known there")
    client_secret_file: HomePath | None = Field(
        None, description="file whose first line is the client's secret; default: a public client"
    )
    title: str = Field("", description="what people know the issuer by; default: the name of the table")
    scopes: Texts = Field(("openid", "profile", "email"), description="scopes that are requested")
    account_claim: str = Field(
        "preferred_username", min_length=1, description="claim that new accounts are named after"
    )
    account_prefix: str = Field("", description="what the names of new accounts begin with, such as corp-")
    granted_names: bool = Field(
        default=False, description="whether new accounts may have names that rules or groups have already"
    )
    groups_claim: str = Field("groups", min_length=1, description="claim that lists groups")
    groups: Annotated[dict[str, str], AfterValidator(_groups)] = Field(
        {}, description="group of this registry for each of the issuer; others are not taken over"
    )
    allowed_groups: Texts = Field((), description="groups there of which people need one; default: none")
    allowed_domains: Annotated[Texts, AfterValidator(_domains)] = Field(
        (), description="domains in one of which people need a verified e-mail address; default: none"
    )
    renewal: Annotated[Duration, AfterValidator(_renewal)] = Field(
        "30d",
        description="how long the keys of people stay valid after they have logged in",
        validate_default=True,
    )
    session: Annotated[Duration, AfterValidator(_session)] = Field(
        "12h", description="how long a browser stays logged in", validate_default=True
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "openid" not in self.scopes:
            raise ValueError("scopes must contain openid")
        if not _PREFIX.fullmatch(self.account_prefix):
            raise ValueError("account_prefix must be letters and digits, and one of ._+-")
        return self


def _checked(tables: dict[str, LoginIssuerSettings], info: ValidationInfo) -> dict[str, LoginIssuerSettings]:
    """Check the tables, together with the setting ``auth``, which comes before them."""
    if tables and info.data.get("auth") != "accounts":
        raise ValueError('requires auth = "accounts"')
    if wrong := [name for name in tables if not _NAME.fullmatch(name)]:
        raise ValueError(f'invalid name "{wrong[0]}"; expected lower-case letters, digits and -')
    issuers = [each.issuer for each in tables.values()]
    if len(set(issuers)) < len(issuers):
        raise ValueError("the same issuer is given twice")
    return tables


LoginIssuers = Annotated[
    dict[str, LoginIssuerSettings],
    BeforeValidator(json_tables),
    AfterValidator(_checked),
]
