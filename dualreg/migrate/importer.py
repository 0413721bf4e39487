"""What the importers share: the state of a tag before it changes, and how a change is journaled."""

from datetime import datetime

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import CurrentManifest
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.registry import Registry
from dualreg.registry.preconditions import ANY, Precondition


def current_manifest(
    registry: Registry, repository: RepositoryName, reference: Tag | Digest
) -> CurrentManifest | None:
    """Return the manifest of a tag or digest in this registry, even if the setting ``bridge`` hides it."""
    row = registry.manifests.peek(repository, reference)
    if row is None:
        return None
    return CurrentManifest(row.digest, registry.bridge.view_of(row), row.origin)


def journal_tag_update(
    journal: Journal,
    entry: Entry,
    before: CurrentManifest | None,
    *,
    made: bool,
    manifest: Digest | None = None,
) -> None:
    """Journal that the tag of an entry is about to be set.

    Args:
        manifest: What it will point at, if that is known already.
        made: Whether that manifest is new to this registry.
    """
    journal.write(
        "pointing",
        repository=entry.to_repository,
        tag=entry.to_tag,
        image=entry.image,
        manifest=str(manifest or ""),
        before=str(before.digest) if before else "",
        origin=before.origin if before else "",
        made=made,
    )


def require_unchanged(entry: Entry, before: CurrentManifest | None) -> Precondition:
    """Return the precondition for setting the tag of an entry: it was not moved or deleted since *before*.

    Args:
        before: What it pointed at when it was looked up; None: it did not exist.
    """
    if before:
        return Precondition(match=frozenset({str(before.digest)}))
    return Precondition(none_match=frozenset({ANY}), pushed_at=pushed_at(entry))


def pushed_at(entry: Entry) -> datetime | None:
    """Return when the tag of an entry was pushed to the source; None if that is unknown."""
    return datetime.fromisoformat(entry.updated) if entry.updated else None
