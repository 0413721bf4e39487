"""Signing: by which keys the signatures of a repository are verified, and what is refused without one."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self, TypeVar

from dualreg.image.names import RepositoryName
from dualreg.image.signatures.trust import Trust, read_certificates, read_keys
from dualreg.patterns import matches
from dualreg.reloading import ReloadingFile


class Mode(StrEnum):
    """What happens to an image without a valid signature."""

    OFF = "off"
    WARN = "warn"
    REFUSE = "refuse"


class On(StrEnum):
    """Which requests a policy is about: pulls, or pushes of tags."""

    PULL = "pull"
    PUSH = "push"


#: Bytes of the largest file of keys.
_FILE_LIMIT = 1 << 20
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class SigningPolicy:
    """Whose signatures count in some repositories.

    Attributes:
        repositories: Patterns of their names.
        trust: Returns the keys and certificates that count now: another object after a change of them.
        mode: What happens without one of their signatures.
        on: To which requests.
    """

    name: str
    repositories: tuple[str, ...]
    trust: Callable[[], Trust]
    mode: Mode = Mode.OFF
    on: frozenset[On] = frozenset()

    @classmethod
    def read(
        cls,
        name: str,
        repositories: tuple[str, ...],
        keys: Iterable[Path],
        certificates: Iterable[Path],
        *,
        mode: str = Mode.OFF,
        on: str = "both",
    ) -> Self:
        """Return the policy with the keys and certificates in files, which are read again when they change.

        Raises:
            ValueError: one cannot be read, or has none that can be used.
        """
        keys, certificates = tuple(keys), tuple(certificates)

        def trust() -> Trust:
            return Trust(
                tuple(_read(name, keys, lambda path, pem: read_keys(path.name, pem))),
                tuple(_read(name, certificates, lambda _, pem: read_certificates(pem))),
            )

        trust()  # whose errors name the table
        requests = frozenset(On) if on == "both" else frozenset({On(on)})
        return cls(name, repositories, ReloadingFile(trust, *keys, *certificates).get, Mode(mode), requests)

    def covers(self, repository: RepositoryName) -> bool:
        """Return whether the policy is about a repository."""
        return any(matches(pattern, repository) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class SigningPolicies:
    """The policies of a registry."""

    all: tuple[SigningPolicy, ...] = ()

    def trust(self, repository: RepositoryName) -> Trust:
        """Return by what signatures of a repository are verified, for whatever policy."""
        return Trust.joined(each.trust() for each in self.all if each.covers(repository))

    def of(self, repository: RepositoryName, on: On) -> tuple[SigningPolicy, ...]:
        """Return the policies that warn of or refuse such requests to a repository."""
        return tuple(
            each
            for each in self.all
            if each.mode is not Mode.OFF and on in each.on and each.covers(repository)
        )


def _read(name: str, paths: Iterable[Path], parse: Callable[[Path, bytes], Iterable[Read]]) -> Iterator[Read]:
    """Yield what files contain; for the errors, see ``SigningPolicy.read``."""
    for path in paths:
        try:
            with path.open("rb") as file:
                yield from parse(path, file.read(_FILE_LIMIT))
        except OSError as error:
            raise ValueError(f"signatures.{name}: {path}: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"signatures.{name}: {path}: {error}") from error
