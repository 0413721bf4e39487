"""Deletion: of manifests with all their tags, and of repositories, in steps that keep no writer waiting.

A transaction deletes up to STEP rows with their link files. Each leaves a sound registry, since what is
deleted first is what nothing else needs. If one fails, those before it stay, and the same request, made
again, does the rest.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.retention import DatedTag
from dualreg.catalog.rows import RepositoryRow
from dualreg.errors import ManifestInUse, ManifestUnknown, RepositoryUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag, UploadId
from dualreg.registry.counting import uncount_links
from dualreg.registry.immutability import require_all_movable, require_untied
from dualreg.registry.policies import PolicySet
from dualreg.registry.preconditions import UNCONDITIONAL, Precondition, check_precondition
from dualreg.registry.state import State

#: Tags, manifests, images and links that a transaction deletes.
STEP = 200


#: Deletes up to a number of rows of a repository, and returns them; and removes the link files of these.
_Step = tuple[Callable[[int, int], Any], Callable[[Any], None]]


class Removed(NamedTuple):
    """What a step has deleted.

    Attributes:
        documents: The blobs of manifests and JSONs, which stay linked.
        rest: The first V1 image that is left to the next step.
    """

    documents: tuple[Digest, ...] = ()
    rest: ImageId | None = None


def delete_manifest(
    state: State,
    repository: RepositoryName,
    digest: Digest,
    condition: Precondition,
    *,
    tagged: bool,
    restorable: bool,
) -> None:
    """Delete a manifest, as ``Manifests.delete``; with *tagged*, also what an edition was made of.

    A client that looks up a tag to delete the image gets the digest of the edition that it can read.
    """
    sources = _sources(state, repository, digest, condition) if tagged else ()
    for each in sources:
        with suppress(ManifestUnknown):  # deleted meanwhile
            _delete(state, repository, each, UNCONDITIONAL, tagged=True, restorable=restorable)
    with suppress(*([ManifestUnknown] if sources else [])):  # it went along with them
        _delete(state, repository, digest, condition, tagged=tagged, restorable=restorable)


def _sources(
    state: State, repository: RepositoryName, digest: Digest, condition: Precondition
) -> Collection[Digest]:
    """Return the manifests of which one without tags was made, if there are any and the condition holds."""
    with state.catalog.read() as tx:
        row = tx.repositories.find(repository)
        if row is None or tx.tags.pointing_at(row.id, digest, limit=1):
            return ()
        if sources := tx.views.sources(row.id, digest):
            check_precondition(tx, condition, repository, digest)
        return sources


def _delete(
    state: State,
    repository: RepositoryName,
    digest: Digest,
    condition: Precondition,
    *,
    tagged: bool,
    restorable: bool,
) -> None:
    """Delete the tags of a manifest, then itself, then what was derived from it."""
    available = state.upstream.has(repository, digest)
    more, rest, is_first = True, None, True
    while more:
        with state.begin() as tx:
            # Exclusive, so that no client starts to build on the V1 images that are deleted along with it.
            row = tx.repositories.lock(repository, exclusive=True, absent=available)
            if row is None and not available:
                raise RepositoryUnknown(name=repository)
            check_precondition(tx, condition, repository, digest)
            holder = row if row and tx.manifests.lock(row.id, digest) else None
            if holder is None and not available:
                raise ManifestUnknown(reference=str(digest))
            if holder and tagged and is_first:
                require_untied(state, tx, holder, digest)
            is_first = False
            more = holder is not None and _delete_tags(state, tx, holder, digest, tagged=tagged)
            if more:
                continue
            state.upstream.mark_deleted(tx, repository, [digest])
            if holder:
                if restorable and is_restorable(state, tx, holder):
                    tx.undelete.record(holder, [digest])
                rest = _unlink(state, tx, holder, _remove_manifest(state, tx, holder, digest))
            else:  # the source may be this registry's own store
                state.links.remove_manifests(repository, {digest: ()})
    while rest:
        with state.begin() as tx:
            row = tx.repositories.lock(repository, exclusive=True)
            rest = _unlink(state, tx, row, _prune(state, tx, row, rest)) if row else None


def _not_made(tx: Transaction, repository: RepositoryRow, manifests: Collection[Digest]) -> set[Digest]:
    """Return those of *manifests* that clients pushed: what was made of others can be made again."""
    made = tx.views.made_among(repository.id, manifests)
    if made:
        made -= tx.history.named(repository.name, made) | tx.undelete.named(repository.name, made)
    return {*manifests} - made


def is_restorable(state: State, tx: Transaction, repository: RepositoryRow) -> bool:
    """Return whether what is deleted from a repository can be restored; upstreams have theirs still."""
    return bool(state.retention.undelete) and not tx.repositories.upstream(repository.name)


def _delete_tags(
    state: State, tx: Transaction, repository: RepositoryRow, digest: Digest, *, tagged: bool
) -> bool:
    """Delete tags of a manifest that may be deleted; return whether there may be more.

    Raises:
        ManifestInUse.
        TagImmutable: since an earlier step, such a tag points at it.
    """
    tags = tx.tags.pointing_at(repository.id, digest, limit=STEP)
    parents = [str(parent) for parent in tx.manifests.parents(repository.id, digest)]
    if parents or (tags and not tagged):
        leading = tx.tags.leading_to(repository.id, parents or [str(digest)])
        raise ManifestInUse(digest=str(digest), referrers=parents, tags=leading)
    state.policies.of(tx, repository).require_movable(repository.name, tags)
    view = tx.views.find(repository.id, digest)
    state.upstream.mark_deleted(tx, repository.name, [*tags, *([view] if view else [])])
    if tags:
        tx.tags.remove(repository.id, *tags)
        state.links.remove_tags(repository.name, *tags)
    return len(tags) == STEP


def _remove_manifest(state: State, tx: Transaction, repository: RepositoryRow, digest: Digest) -> Removed:
    """Delete a manifest, and what was derived from it alone, in a repository that is locked exclusively.

    The documents, and what the manifest names, become candidates of the garbage collection. So do the V1
    images of a long chain that this step does not reach, and further ones of many conversions.
    """
    view = tx.views.find(repository.id, digest)
    derived = [blob.digest for blob in tx.derivations.conversions(repository.id, digest)][:STEP]
    gone = tx.manifests.remove(repository.id, digest)
    unused = tx.garbage.unused_manifests(repository.id, derived) if derived else ()
    if unused:
        gone |= tx.manifests.remove(repository.id, *unused)
    state.links.remove_manifests(repository.name, gone)
    images = _prune(state, tx, repository, ImageId(view)) if view else Removed()
    return Removed((*gone, *images.documents), images.rest)


def _prune(state: State, tx: Transaction, repository: RepositoryRow, image: ImageId) -> Removed:
    """Delete a derived V1 image and its ancestors."""
    images = tx.v1_images.prune(repository, image, limit=STEP)
    state.links.remove_v1_images(repository.name, *(each.id for each in images))
    rest = images[-1].parent if len(images) == STEP else None
    return Removed(tuple(each.json for each in images), rest)


def _unlink(state: State, tx: Transaction, repository: RepositoryRow, removed: Removed) -> ImageId | None:
    """Unlink the documents of what was removed; return the image that the next step removes."""
    if removed.documents:
        unlinked = tx.blobs.unlink(repository.id, *removed.documents)
        uncount_links(state.policies, tx, repository, unlinked)
        state.links.remove_blobs(repository.name, *unlinked)
    return removed.rest


def clear_tags(state: State, name: RepositoryName) -> None:
    """Delete every tag of a repository, as ``Tags.clear``."""
    require_all_movable(state, name)
    known = bool(state.upstream.available_tags(name, limit=1))
    more = True
    while more:
        with state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True)
            if row and state.retention.undelete:
                tx.undelete.begin_repository(name)
            tags = tx.tags.clear(row.id, STEP) if row else ()
            state.policies.of(tx, row).require_movable(name, tags)
            if not (tags or known):
                raise RepositoryUnknown(name=name)
            state.upstream.mark_deleted(tx, name)
            state.links.remove_tags(name, *tags)
            known, more = True, len(tags) == STEP
            if not more:
                tx.undelete.end_repository(name)


def remove_tags(state: State, tx: Transaction, repository: RepositoryRow, tags: Collection[Tag]) -> None:
    """Delete tags, if any, of a repository that is locked, with their link files; manifests stay."""
    if tags:
        tx.tags.remove(repository.id, *tags)
        state.upstream.mark_deleted(tx, repository.name, tags)
        state.links.remove_tags(repository.name, *tags)


def delete_unchanged(
    state: State, name: RepositoryName, tags: Sequence[DatedTag], required: Collection[Tag]
) -> frozenset[Tag]:
    """Delete those of *tags* that are as they were, as ``TagRetention.delete``, if all *required* ones exist.

    They are to be few, so that the transaction takes milliseconds.
    """
    with state.begin() as tx:
        row = tx.repositories.lock(name, exclusive=True)
        if row is None or not tx.retention.has_all(row.id, required):
            return frozenset()
        names = [tag.name for tag in tags]
        found, staying = frozenset(tx.retention.lock(row.id, names)), tx.retention.about(row.id, names)
        bound = state.policies.of(tx, row).bound(name, names)
        going = [tag.name for tag in tags if tag in found and tag.name not in {*staying, *bound}]
        remove_tags(state, tx, row, going)
    return frozenset(going)


def delete_repository(state: State, name: RepositoryName, *, force: bool) -> None:
    """Delete a repository, as ``Repositories.delete``: last of all, the repository itself."""
    if not force:
        require_all_movable(state, name)
    known = bool(state.upstream.available_tags(name, limit=1))
    uploads = list[tuple[UploadId, str]]()
    more = True
    while more:
        with state.begin() as tx:
            row = tx.repositories.lock(name, exclusive=True, absent=known)
            if not (row or known):
                raise RepositoryUnknown(name=name)
            state.upstream.mark_deleted(tx, name)
            if row and state.retention.undelete:
                tx.undelete.begin_repository(name)
            known, more = True, row is not None and _empty(state, tx, row, force=force)
            if not more:
                tx.undelete.end_repository(name)
                uploads = tx.repositories.remove(row.id) if row else []
                state.links.remove_repository(name)
    for upload, layout in uploads:
        state.store.adopt(upload, layout)
        state.store.discard(upload)


def _empty(state: State, tx: Transaction, repository: RepositoryRow, *, force: bool) -> bool:
    """Delete some content of a repository; return whether there may be more.

    Raises:
        TagImmutable: a tag was pushed meanwhile that may not be deleted.
    """
    links, name, left = state.links, repository.name, STEP
    policies = PolicySet() if force else state.policies.of(tx, repository)

    unlinked = list[Digest]()

    def remove_blobs(gone: Sequence[Digest]) -> None:
        unlinked.extend(gone)
        links.remove_blobs(name, *gone)

    def remove_tags(gone: Sequence[Tag]) -> None:
        policies.require_movable(name, gone)
        links.remove_tags(name, *gone)

    def clear_manifests(repository_id: int, limit: int) -> dict[Digest, list[str]]:
        going = tx.manifests.uppermost(repository_id, limit)
        # While it is known that they were made of these.
        if going and (editions := tx.views.editions(repository_id, going)):
            going = (*{*going, *tx.manifests.uppermost(repository_id, STEP, among=editions)},)
        if going and is_restorable(state, tx, repository):
            tx.undelete.record(repository, _not_made(tx, repository, going))
        return tx.manifests.remove(repository_id, *going) if going else {}

    steps: tuple[_Step, ...] = (
        (tx.tags.clear, remove_tags),
        (clear_manifests, lambda gone: links.remove_manifests(name, gone)),
        (tx.v1_images.clear, lambda gone: links.remove_v1_images(name, *gone)),
        (tx.blobs.clear, remove_blobs),
    )
    for clear, unlink in steps:
        while left and (gone := clear(repository.id, left)):
            unlink(gone)
            left = max(left - len(gone), 0)
    uncount_links(state.policies, tx, repository, unlinked)
    return left == 0
