"""The task ``scrub``: all blobs verified. Servers do a little of it all the time, at ``fsck_rate``."""

from dualreg.assembly import catalog_of
from dualreg.catalog.leading import Duty
from dualreg.cli.admin import Record
from dualreg.cli.output import minute
from dualreg.cli.turns import Task
from dualreg.maintenance.scrubbing import Scrubber
from dualreg.messages import counted
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.settings.schedules import Timing


def outlook(registry: Registry) -> str:
    """Return in one line how far verifying has come."""
    with catalog_of(registry).read() as tx:
        since, damaged = tx.checks.all_verified_since(), tx.blobs.count_damaged()
    sound = f"sound since {minute(since)} or later" if since else "no sound blobs"
    return f"{sound}, {damaged} damaged"


def _work(registry: Registry, settings: Settings, record: Record, window: str) -> str:
    """Verify all blobs, as fast as they can be read."""
    del settings, record, window
    found = Scrubber(catalog_of(registry), registry.integrity, rate=0).scrub_all()
    return f"verified {counted(found.blobs, 'blob')}, {found.blobs - found.sound} lost or damaged"


#: It has no schedule: each server verifies blobs all the time.
TASK = Task("scrub", Duty.SCRUBBING, lambda _: Timing(""), _work)
