"""``dualreg config``: what is set, and by what."""

import json
import re
from pathlib import Path

import click

from dualreg.cli.options import load_settings, settings_options
from dualreg.settings import Settings


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(data: Path | None, config: Path | None, *, as_json: bool) -> None:
    """Print every setting, its value, and where the value came from."""
    settings = load_settings(config, data=data)
    rows = [(name, _masked(getattr(settings, name)), settings.origin(name)) for name in Settings.model_fields]
    if as_json:
        click.echo(
            json.dumps({name: {"value": value, "origin": origin} for name, value, origin in rows}, indent=2)
        )
        return
    for name, value, origin in rows:
        click.echo(f"{name:16} {value or '-':28} {origin}")


def _masked(value: object) -> str:
    """Return the value as text, a password within a URL hidden."""
    return re.sub(r"(://[^:/@]*):[^/]*@", r"\1:***@", str(value))
