"""Referrers of a subject."""

import json
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.image.manifest import Manifest, parse
from tests.builders import index
from tests.conftest import Clock
from tests.contracts.catalog.rows import (
    CONFIG,
    IMAGE,
    LOWER,
    MANIFEST,
    MISSING,
    NAME,
    OTHER,
    UPPER,
    image_id,
    link,
    push,
    record,
    v1_row,
)


class ReferrersContract:
    """Referrers of a subject."""

    def test_referrers_are_of_the_repository(self, catalog: Catalog) -> None:
        """What another repository's manifests name does not count here; both kinds of referrers do."""
        with catalog.begin() as tx:
            push(tx, OTHER)
            mine = tx.repositories.ensure(NAME).id
            link(tx, mine, *IMAGE.blobs.values())
            assert tx.blobs.referrers(mine, LOWER) == ()
            assert tx.blobs.unlink(mine, LOWER) == (LOWER,)
            push(tx, NAME)
            tx.v1_images.record(v1_row(mine, 1))
            assert tx.blobs.referrers(mine, LOWER) == (str(MANIFEST.digest), image_id(1))

    def test_referrers_of_a_subject(self, catalog: Catalog, clock: Clock) -> None:
        """In the order they were pushed, by type, after the last one seen; the subject need not exist."""
        subject = {"mediaType": IMAGE.media_type, "digest": str(MISSING), "size": 7}

        def referrer(number: int, kind: str, about: dict[str, object]) -> Manifest:
            document = {**json.loads(index(IMAGE, IMAGE)), "subject": about, "artifactType": kind}
            return parse("", json.dumps(document | {"annotations": {"number": str(number)}}).encode())

        made = [referrer(number, f"x/{number % 2}", subject) for number in range(40)]
        other = referrer(99, "x/0", subject | {"digest": str(CONFIG)})
        for pair in zip(made[::2], made[1::2], strict=True):
            with catalog.begin() as tx:
                repository_id = push(tx)
                record(tx, repository_id, other)
                for manifest in pair:
                    record(tx, repository_id, manifest)
            clock.advance(timedelta(microseconds=1))
        wanted = [
            each for pair in zip(made[::2], made[1::2], strict=True)
            for each in sorted(pair, key=lambda manifest: str(manifest.digest))
        ]  # fmt: skip
        with catalog.read() as tx:
            rows = [*tx.referrers.walk(NAME, MISSING, artifact_type=None, after=None, limit=99)]
            assert [row.digest for row in rows] == [manifest.digest for manifest in wanted]
            assert [row.annotations for row in rows] == [manifest.annotations for manifest in wanted]
            assert (rows[0].size, rows[0].media_type) == (len(wanted[0].payload), wanted[0].media_type)
            for position, row in enumerate(rows):
                rest = tx.referrers.walk(
                    NAME, MISSING, artifact_type=None, after=(row.pushed_at, row.digest), limit=99
                )
                assert [*rest] == rows[position + 1 :]
            odd = tx.referrers.walk(NAME, MISSING, artifact_type="x/1", after=None, limit=99)
            assert [row.digest for row in odd] == [manifest.digest for manifest in made[1::2]]
            assert [*tx.referrers.walk(OTHER, MISSING, artifact_type=None, after=None, limit=99)] == []
            assert [*tx.referrers.walk(NAME, UPPER, artifact_type=None, after=None, limit=99)] == []
