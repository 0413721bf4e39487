"""What was answered for survives kills of servers over a bucket, at some of their requests to it.

The long form kills at each request that changes the bucket, before and after the object store has it.
"""

from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from dualreg.assembly import open_registry, prepare
from dualreg.settings import Settings
from tests.contracts.radosgw import s3_bucket, settings_of
from tests.contracts.s3_faults import faulty
from tests.cuts.bucket import SIDES, Killing, Rounds
from tests.cuts.check import timeless
from tests.faults.faulty import check_sound
from tests.maintenance.world import known_rows, rebuilt_rows
from tests.programs import DUALREG, running
from tests.soak import SOAK

#: Requests of the short form: a link file of the first manifest, and one of those that delete it.
PLACES = (12, 50)
pytestmark = [pytest.mark.s3, pytest.mark.client, pytest.mark.slow]


def test_nothing_that_was_answered_for_is_lost(tmp_path: Path) -> None:
    """Nor is anything left but what is collected; the bucket alone is the registry, too."""
    data = tmp_path / "data"
    with s3_bucket() as url:
        chosen = settings_of(url)
        with faulty(chosen["s3_endpoint"]) as (proxy, faults):
            rounds = Rounds(data, chosen | {"s3_endpoint": proxy}, Killing(faults))
            kill_at_many(rounds) if SOAK else kill_at_some(rounds)
        rounds.settings = chosen
        rounds.require()
        require_clean(tmp_path, chosen, Settings(data=data, audit="off", **chosen))


def kill_at_some(rounds: Rounds) -> None:
    """Kill among the pushes, and among the deletes."""
    assert rounds.run(0, PLACES[0], "after")
    assert rounds.run(1, PLACES[1], "before")


def kill_at_many(rounds: Rounds) -> None:
    """Kill at every place, on both sides, until a round ends before its place comes."""
    places = ((place, side) for place in count(1) for side in SIDES)
    for number, (place, side) in enumerate(places):
        if not rounds.run(number, place, side):
            break


def require_clean(folder: Path, chosen: dict[str, str], settings: Settings) -> None:
    """Require that commands find nothing, and that a catalog made anew from the bucket is the same."""
    env = {f"DUALREG_{name.upper()}": value for name, value in chosen.items()}
    env |= {"DUALREG_DATA": str(settings.data), "DUALREG_UPLOAD_TTL": "0s", "DUALREG_GC_GRACE": "0s"}
    for command in (["gc", "--full"], ["fsck", "--read"]):
        log = folder / "command.log"
        with running([DUALREG, *command], log, env) as process:
            assert process.wait(60) == 0, log.read_text()
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        check_sound(registry)
        store, catalog = registry.state.store, registry.state.catalog
        assert timeless(rebuilt_rows(store, folder)) == timeless(known_rows(catalog))
        bucket = store._bucket  # type: ignore[attr-defined]  # S3Store's
        assert [each.key for each in bucket.walk("uploads/")] == []
