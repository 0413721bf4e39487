"""Signing: by which keys the signatures of a repository are verified."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from dualreg.image.names import RepositoryName
from dualreg.image.signatures.trust import Trust, read_certificates, read_keys
from dualreg.patterns import matches

#: Bytes of the largest file of keys.
_FILE_LIMIT = 1 << 20
Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Policy:
    """Whose signatures count in some repositories.

    Attributes:
        repositories: Patterns of their names.
    """

    name: str
    repositories: tuple[str, ...]
    trust: Trust

    @classmethod
    def read(
        cls, name: str, repositories: tuple[str, ...], keys: Iterable[Path], certificates: Iterable[Path]
    ) -> Self:
        """Return the policy with the keys and certificates in files.

        Raises:
            ValueError: one cannot be read, or has none that can be used.
        """
        trust = Trust(
            tuple(_read(name, keys, lambda path, pem: read_keys(path.name, pem))),
            tuple(_read(name, certificates, lambda _, pem: read_certificates(pem))),
        )
        return cls(name, repositories, trust)

    def covers(self, repository: RepositoryName) -> bool:
        """Return whether the policy is about a repository."""
        return any(matches(pattern, repository) for pattern in self.repositories)


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a registry."""

    all: tuple[Policy, ...] = ()

    def trust(self, repository: RepositoryName) -> Trust:
        """Return by what signatures of a repository are verified, for whatever policy."""
        return Trust.joined(each.trust for each in self.all if each.covers(repository))


def _read(name: str, paths: Iterable[Path], parse: Callable[[Path, bytes], Iterable[Read]]) -> Iterator[Read]:
    """Yield what files contain; for the errors, see ``Policy.read``."""
    for path in paths:
        try:
            with path.open("rb") as file:
                yield from parse(path, file.read(_FILE_LIMIT))
        except OSError as error:
            raise ValueError(f"signatures.{name}: {path}: {error.strerror}") from error
        except ValueError as error:
            raise ValueError(f"signatures.{name}: {path}: {error}") from error
