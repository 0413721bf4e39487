"""Signatures: the tables ``[signatures.NAME]`` of the configuration file."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dualreg.settings.values import HomePaths, Patterns, json_tables

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)


def _of_repositories(values: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [each for each in values if ":" in each or "@" in each]:
        raise ValueError(f'invalid pattern "{wrong[0]}": expected names of repositories, without tags')
    return values


class SignatureSettings(BaseModel):
    """By which keys the signatures of some repositories are verified, and what happens without one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repositories: Annotated[Patterns, AfterValidator(_of_repositories)] = Field(
        min_length=1, description="patterns of repositories"
    )
    keys: HomePaths = Field((), description="files of public keys in PEM, for cosign")
    certificates: HomePaths = Field((), description="files of certificates in PEM, for notation")

    mode: Literal["off", "warn", "refuse"] = Field(
        "off", description="what happens to images without a valid signature"
    )
    on: Literal["pull", "push", "both"] = Field("both", description="to which requests")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.keys and not self.certificates:
            raise ValueError("expected keys or certificates")
        return self


def _named(tables: dict[str, SignatureSettings]) -> dict[str, SignatureSettings]:
    if wrong := [name for name in tables if not _NAME.fullmatch(name)]:
        raise ValueError(f'invalid name "{wrong[0]}"; expected lower-case letters, digits and any of ._-')
    return tables


Signatures = Annotated[dict[str, SignatureSettings], BeforeValidator(json_tables), AfterValidator(_named)]
