"""Routes: which names here are which names of another registry."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dualreg.image.names import NAME_LIMIT, RepositoryName, in_library
from dualreg.patterns import matches

#: The platform that attestations are listed under: they belong to images of every platform.
_NO_PLATFORM = "unknown"


@dataclass(frozen=True, slots=True)
class Route:
    """The repositories here that hold what another registry has.

    Attributes:
        prefix: What their names begin with, up to a slash, and what is left out there; empty: any names.
        url: The other registry.
        namespaces: Hosts by which clients mean it.
        has_library: Whether names there without a slash are those of ``library/``, as on Docker Hub.
        repositories: Patterns of the only names there that are served; empty: all are.
        platforms: The only platforms that are served of indexes, such as ``linux/arm/v7``; empty: all are.
    """

    prefix: str
    url: str
    namespaces: Sequence[str] = ()
    has_library: bool = False
    repositories: Sequence[str] = ()
    platforms: Sequence[str] = ()

    def covers(self, repository: RepositoryName) -> bool:
        """Return whether it may be a repository of this route."""
        return repository.startswith(self.prefix)

    def there(self, repository: RepositoryName) -> RepositoryName:
        """Return the name there of a repository of this route."""
        name = repository.removeprefix(self.prefix)
        return RepositoryName(in_library(name) if self.has_library else name)

    def here(self, name: str) -> str | None:
        """Return the repository that holds *name* of the other registry; None: its name would be too long."""
        found = f"{self.prefix}{in_library(name) if self.has_library else name}"
        return found if len(found) <= NAME_LIMIT else None

    def allows(self, repository: RepositoryName) -> bool:
        """Return whether the repository is served at all."""
        name = self.there(repository)
        return not self.repositories or any(matches(pattern, name) for pattern in self.repositories)

    def allows_platform(self, platform: Mapping[str, object]) -> bool:
        """Return whether an entry of an index with *platform* is served; one without a platform always is."""
        system, architecture = platform.get("os"), platform.get("architecture")
        if not self.platforms or not system or system == _NO_PLATFORM:
            return True
        named = f"{system}/{architecture}"
        variant = platform.get("variant")
        return named in self.platforms or f"{named}/{variant}" in self.platforms
