"""Errors of the wire."""


class WireError(OSError):
    """The other registry cannot be reached, or answers nonsense; a line that names no secrets."""
