"""``dualreg config``: the settings in effect, and where each was set."""

import json
from datetime import timedelta
from pathlib import Path

import click

from dualreg.cli.options import announce_registry, json_option, load_settings, settings_options
from dualreg.cli.output import echo, echo_json
from dualreg.messages import mask
from dualreg.settings import Settings, format_duration
from dualreg.settings.values import chosen


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
    rows = [(name, _plain(getattr(settings, name)), settings.origin(name)) for name in Settings.model_fields]
    if as_json:
        echo_json({name: {"value": value, "origin": origin} for name, value, origin in rows})
        return
    for name, value, origin in rows:
        text = _text(value)
        echo(f"{name:16} {text:28} {origin}")


def _text(value: object) -> str:
    """Return a value in one line; a hyphen if there is none."""
    if isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(value) if value and isinstance(value, dict) else str(value or "-")


def _plain(value: object) -> object:
    """Return the value as the configuration file takes it, without the secrets of a URL."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return chosen(value)
    if isinstance(value, tuple):
        return ", ".join(value)
    return mask(format_duration(value) if isinstance(value, timedelta) else str(value))
