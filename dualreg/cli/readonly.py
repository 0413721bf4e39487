"""What commands may change: nothing while the registry is read-only, and no more than there is room for."""

import click

from dualreg.assembly import writes_of
from dualreg.errors import RegistryError
from dualreg.settings import Settings


def require_writable(settings: Settings) -> None:
    """Check that a command may add content now.

    Raises:
        click.ClickException: the registry is read-only, or its disk nearly full.
    """
    try:
        writes_of(settings).require()
    except RegistryError as error:
        raise click.ClickException(str(error)) from error


def require_changeable(settings: Settings) -> None:
    """Check that a command may change or delete content now.

    Raises:
        click.ClickException: the registry is read-only.
    """
    try:
        writes_of(settings).require_allowed()
    except RegistryError as error:
        raise click.ClickException(f"{error}\nTo end that, run `dualreg readonly off`.") from error
