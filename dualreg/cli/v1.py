"""``dualreg v1``: how much of the V1 API is served, and switching that."""

from pathlib import Path

import click

from dualreg.cli.administration import administration
from dualreg.cli.options import json_option, settings_options
from dualreg.cli.output import echo, echo_json, minute
from dualreg.registry.v1_mode import V1Mode, V1State


@click.group()
def v1() -> None:
    """Manage how much of the V1 API is served.

    A switch restricts what the setting v1 allows, while the registry serves. `dualreg clients --summary`
    says whether that is safe.
    """


@v1.command()
@json_option
@settings_options
def show(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Show how much of V1 is served, and since when."""
    with administration(data, config) as admin:
        found = admin.v1.show()
    if as_json:
        echo_json(found, indent=None)
        return
    echo(sentence(found))


@v1.command("set")
@click.argument("mode", type=click.Choice([*map(str, V1Mode)]))
@json_option
@settings_options
def set_v1(mode: str, data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Serve no more of V1 than MODE: on, readonly or off.

    It takes effect within a second, in all processes and instances. Requests that have begun are finished.
    With readonly, old clients pull, and pushes are refused. With off, all is refused. Refused clients are
    shown the setting v1_reason. With on, the setting v1 applies.
    """
    with administration(data, config, changes=True, followers=True) as admin:
        found = admin.v1.set(V1Mode(mode))
    if as_json:
        echo_json(found, indent=None)
        return
    echo(sentence(found))
    if found.restricted_since:
        echo("To undo that, run `dualreg v1 set on`.")


def sentence(found: V1State) -> str:
    """Return what is served, and why, in a sentence."""
    if found.restricted_since:
        switched = f"it was switched at {minute(found.restricted_since)}"
        return f"V1 is {found.v1}: {switched}, and the setting v1 is {found.setting}."
    return f"V1 is {found.v1}, as the setting v1 says."
