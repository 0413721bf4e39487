"""What the commands about accounts and permissions share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from dualreg.assembly import accounts_of, authority_of
from dualreg.auth.accounts import Accounts
from dualreg.auth.authority import Authority
from dualreg.auth.directories import CatalogDirectory
from dualreg.auth.secrets import SecretKind
from dualreg.cli.admin_log import Record, audited_registry
from dualreg.errors import RegistryError
from dualreg.settings import Settings


@dataclass(frozen=True)
class AdminSession:
    """What those commands work with."""

    accounts: Accounts
    authority: Authority
    settings: Settings
    record: Record

    def knows(self, account: str) -> bool:
        """Tell whether there is such an account, whichever mode this very command runs in."""
        logins = self.authority.logins
        directory = logins.directory if logins else CatalogDirectory(self.accounts.catalog)
        return directory.knows(account)

    def require(self, account: str) -> None:
        """Raise ValueError if there is no such account."""
        if not self.knows(account):
            raise ValueError(f"there is no account {account}")


@contextmanager
def admin_session(data: Path | None, config: Path | None) -> Iterator[AdminSession]:
    """Open the configured registry for the block.

    Raises:
        click.ClickException: a setting is wrong, the catalog cannot be opened, or the block fails.
    """
    with audited_registry(data, config) as (registry, settings, record):
        try:
            authority = authority_of(registry, settings)
            yield AdminSession(accounts_of(registry), authority, settings, record)
        except (ValueError, RegistryError) as error:
            raise click.ClickException(str(error)) from error


def revoke_secret(kind: SecretKind, id_: str, data: Path | None, config: Path | None) -> None:
    """End a key or a refresh token, and say so."""
    with admin_session(data, config) as own:
        row = own.accounts.revoke(kind, id_)
        own.record(f"{kind} revoke", who=row.account, id=id_)
    click.echo(f"Revoked {id_} of {row.account}.")


def read_password(*, from_stdin: bool) -> str:
    """Return a new password: the first line of the standard input, or asked for twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
