"""Errors of the wire."""


class RemoteError(OSError):
    """The other registry cannot be reached, or answers nonsense; a line that names no secrets."""
