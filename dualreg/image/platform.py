"""Platform: the system that an image is for, and which entry of an index suits it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self, TypeVar

T = TypeVar("T")

#: Variants that are meant where none is named.  Source: containerd, ``platforms/database.go``.
_DEFAULT_VARIANTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}


class Platform(NamedTuple):
    """The system for which an image is wanted, as Go calls systems and architectures.

    Attributes:
        variant: The newest variant of the architecture that will do; empty: that is not known.
    """

    os: str = "linux"
    architecture: str = "amd64"
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the platform ``OS/ARCHITECTURE[/VARIANT]``.

        Raises:
            ValueError.
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts):
            raise ValueError(f'invalid platform "{text}"; expected OS/ARCHITECTURE[/VARIANT]')
        return cls(*parts)

    @classmethod
    def named_by(cls, entry: Mapping[str, Any]) -> Self:
        """Return the platform in the ``platform`` object of an index entry, or in an image config."""
        return cls(*(_text(entry.get(name)) for name in cls._fields))

    def fits(self, entry: Mapping[str, Any]) -> bool:
        """Return whether the ``platform`` object of an index entry names this system."""
        named = Platform.named_by(entry)
        if (named.os, named.architecture) != (self.os, self.architecture):
            return False
        return not self.variant or named.rank <= self.rank

    @property
    def rank(self) -> tuple[int, str]:
        """What orders the variants of an architecture: machines run images for older ones, too."""
        variant = self.variant or _DEFAULT_VARIANTS.get(self.architecture, "")
        return len(variant), variant

    def __str__(self) -> str:
        """Return it as ``parse`` reads it."""
        return "/".join(filter(None, self))


#: What clients get that say nothing of their system.
LINUX_AMD64 = Platform()


def choose(wanted: Platform, entries: Iterable[tuple[Mapping[str, Any], T]]) -> T | None:
    """Return what is for the platform *wanted*, of *entries* given with their ``platform`` objects.

    If the variant is not known, the oldest is taken, which runs on every machine; of several, the first.
    With a variant, the newest that it runs.
    """
    fitting = [(Platform.named_by(entry).rank, value) for entry, value in entries if wanted.fits(entry)]
    if not fitting:
        return None
    best = (max if wanted.variant else min)(rank for rank, _ in fitting)
    return next(value for rank, value in fitting if rank == best)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
