"""Idle uploads: sessions that their clients abandoned, and staged bytes that belong to no session."""

from dataclasses import dataclass
from datetime import datetime

from dualreg.image.names import UploadId
from dualreg.registry.uploads import Uploads


@dataclass(frozen=True, slots=True)
class IdleUploads:
    """What can be discarded.

    Attributes:
        sessions: Uploads that no client has touched for too long.
        strays: Staged bytes of the same age that belong to no session: a crash left them.
    """

    sessions: tuple[UploadId, ...]
    strays: tuple[UploadId, ...]


def plan(uploads: Uploads, before: datetime) -> IdleUploads:
    """Return what was not touched since *before*; change nothing."""
    return IdleUploads(uploads.idle(before), tuple(uploads.strays(before)))


def apply(uploads: Uploads, before: datetime, planned: IdleUploads) -> int:
    """Discard what was *planned* and has still not been touched since *before*; return how many uploads."""
    expired = sum(uploads.expire(upload, before) for upload in planned.sessions)
    for upload in planned.strays:
        uploads.discard_stray(upload)
    return expired + len(planned.strays)
