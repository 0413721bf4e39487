"""``dualreg config``: the settings in effect, and where each was set."""

import json
import re
from pathlib import Path

import click

from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.settings import Settings


@click.group()
def config() -> None:
    """Show the configuration."""


@config.command()
@json_option
@settings_options
def show(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Print every setting with its value and where it was set."""
    settings = load_settings(config, data=data)
    announce_registry(settings)
    rows = [(name, _masked(getattr(settings, name)), settings.origin(name)) for name in Settings.model_fields]
    if as_json:
        click.echo(
            json.dumps({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=2)
        )
        return
    for name, value, origin in rows:
        click.echo(f"{name:16} {value or '-':28} {origin}")


def _masked(value: object) -> str:
    """Return the value as text, without the password of a URL."""
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", str(value))
