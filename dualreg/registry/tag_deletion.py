"""Deletion of several tags of a repository: which go, and why others stay."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from dualreg.catalog.database import Transaction
from dualreg.catalog.rows import RepositoryRow
from dualreg.errors import RegistryError, RepositoryUnknown, TagImmutable, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.deletion import STEP, remove_tags
from dualreg.registry.policies import PolicySet
from dualreg.registry.state import State


class Departure(NamedTuple):
    """What is deleted of some tags, which are in the order that was asked for.

    Attributes:
        going: What the tags point at that are deleted.
        kept: Why others are not.
    """

    going: Mapping[Tag, Digest]
    kept: Mapping[Tag, RegistryError]


def plan_deletion(state: State, name: RepositoryName, tags: Collection[Tag]) -> Departure:
    """Return what ``delete_tags`` would do.

    Raises:
        RepositoryUnknown.
    """
    with state.catalog.read() as tx:
        row = tx.repositories.find(name)
        if row is None:
            raise RepositoryUnknown(name=name)
        return _sorted_out(tx, row, tags, state.policies.of(tx, None))


def delete_tags(state: State, name: RepositoryName, tags: Collection[Tag]) -> Departure:
    """Delete those of *tags* that exist and may be deleted, all of them or none; manifests stay.

    Raises:
        ValueError: there are more than STEP.
        RepositoryUnknown.
    """
    if len(tags) > STEP:
        raise ValueError(f"{len(tags)} tags; delete up to {STEP} at once")
    with state.begin() as tx:
        # No push of a tag may be under way: its link file would go, and its row stay.
        row = tx.repositories.lock(name, exclusive=True)
        if row is None:
            raise RepositoryUnknown(name=name)
        found = _sorted_out(tx, row, tags, state.policies.of(tx, row))
        remove_tags(state, tx, row, found.going)
    return found


def _sorted_out(
    tx: Transaction, repository: RepositoryRow, tags: Collection[Tag], policies: PolicySet
) -> Departure:
    there, name = tx.tags.among(repository.id, tags), repository.name
    kept = dict[Tag, RegistryError]()
    for tag in dict.fromkeys(tags):
        if tag not in there:
            kept[tag] = TagUnknown(tag=tag)
        elif rule := policies.rule_of(name, tag):
            kept[tag] = TagImmutable(repository=name, tag=tag, rule=rule)
    return Departure({tag: there[tag] for tag in tags if tag not in kept}, kept)
