"""Settings: what an operator can configure; the only reader of the configuration file and environment."""

from dualreg.settings.layers import CONFIG_VARIABLE, DEFAULT_FILES, PREFIX, SettingsInvalid
from dualreg.settings.model import Settings
from dualreg.settings.values import format_duration, parse_duration

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_FILES",
    "PREFIX",
    "Settings",
    "SettingsInvalid",
    "format_duration",
    "parse_duration",
]
