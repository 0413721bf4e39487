"""Idle uploads: sessions that their clients have abandoned, and staged bytes that no session knows of."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from dualreg.image.names import UploadId
from dualreg.registry.state import State

#: Staged files asked about at a time.
_BATCH = 500


@dataclass(frozen=True, slots=True)
class IdleUploads:
    """What can be discarded.

    Attributes:
        sessions: Uploads that were idle for too long.
        strays: Staged bytes without a session, left by a crash, and as old.
    """

    sessions: tuple[UploadId, ...]
    strays: tuple[UploadId, ...]


def plan(state: State, idle: timedelta) -> IdleUploads:
    """Return what nobody touched for *idle*; changes nothing."""
    before = state.catalog.now() - idle
    with state.catalog.read() as tx:
        sessions = tx.uploads.idle(before=before)
    old = (staged.upload for staged in state.store.staged() if staged.modified_at < before)
    return IdleUploads(sessions, tuple(_strays(state, old)))


def apply(state: State, idle: timedelta, planned: IdleUploads) -> int:
    """Discard what was *planned* and is still idle; return how many uploads that were.

    The row goes first here: once it is gone, no client can write to the bytes that go next.
    """
    before = state.catalog.now() - idle
    discarded = 0
    for upload in planned.sessions:
        with state.catalog.begin() as tx:
            removed = tx.uploads.remove_idle(upload, before=before)
        if removed:
            state.store.discard(upload)
            discarded += 1
    for upload in planned.strays:
        state.store.discard(upload)
    return discarded + len(planned.strays)


def _strays(state: State, uploads: Iterator[UploadId]) -> Iterator[UploadId]:
    while batch := list(islice(uploads, _BATCH)):
        with state.catalog.read() as tx:
            known = tx.uploads.known(batch)
        yield from (upload for upload in batch if upload not in known)
