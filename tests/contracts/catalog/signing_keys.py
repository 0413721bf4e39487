"""Signing keys, and what was signed with them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import Digest
from dualreg.registry.keys import Keys
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, NAME, push


class SigningKeysContract:
    """Signing keys, and what was signed with them."""

    def test_a_purpose_has_one_key(self, catalog: Catalog) -> None:
        """Whoever adds another key, or the same one again, still gets the first; purposes are apart."""
        with catalog.begin() as tx:
            assert tx.keys.find("a") is None
            tx.keys.add("1", "a", "first")
            tx.keys.add("1", "a", "again")
            assert tx.keys.find("a") == "first"
            assert tx.keys.find("b") is None
        with catalog.begin() as tx:
            tx.keys.add("2", "a", "second")
            tx.keys.add("3", "b", "other")
            assert [tx.keys.find(purpose) for purpose in "ab"] == ["first", "other"]

    def test_processes_that_need_a_key_at_once_agree(self, catalog: Catalog) -> None:
        """Each asks with connections of its own; all sign with one key, at once and ever after."""
        gate = threading.Barrier(4)

        def ask(_: int) -> str:
            gate.wait()
            return Keys(catalog).schema1.id

        with ThreadPoolExecutor(4) as pool:
            used = {*pool.map(ask, range(4))}
        assert used == {Keys(catalog).schema1.id}

    def test_the_signed_form_of_a_manifest(self, catalog: Catalog) -> None:
        """The latest recorded; it is a blob in use, until the manifest is gone."""
        signed = [Digest.of(text) for text in (b"one", b"two")]
        with catalog.begin() as tx:
            repository_id = push(tx, NAME, "a")
            assert tx.manifests.signed(repository_id, MANIFEST.digest) is None
            for digest in signed:
                tx.blobs.record(digest, 3)
                tx.blobs.link(repository_id, digest)
                tx.manifests.record_signed(repository_id, MANIFEST.digest, digest)
            assert tx.manifests.signed(repository_id, MANIFEST.digest) == BlobRow(signed[1], 3)
            assert tx.blobs.unlink(repository_id, *signed) == (signed[0],)
            tx.manifests.remove(repository_id, MANIFEST.digest)
            assert tx.blobs.unlink(repository_id, signed[1])

    def test_keys_are_accepted_until_their_grace_ends(self, catalog: Catalog, clock: Clock) -> None:
        """The one that signs always, replaced ones for a while, and those of another purpose never."""
        with catalog.begin() as tx:
            tx.keys.add("1", "a", "first")
            tx.keys.retire("a", timedelta(hours=2))
            tx.keys.add("2", "a", "second")
            assert tx.keys.find("a") == "second"
            assert [tx.keys.accepted(kid, "a") for kid in ("1", "2", "3")] == ["first", "second", None]
            assert tx.keys.accepted("1", "b") is None
            tx.keys.retire("a", timedelta(hours=1))
            tx.keys.add("3", "a", "third")
            assert tx.keys.count_accepted("a") == 3
        clock.advance(timedelta(hours=1))
        with catalog.begin() as tx:
            assert [tx.keys.accepted(kid, "a") for kid in ("1", "2", "3")] == [None, None, "third"]
            assert tx.keys.count_accepted("a") == 1
            tx.keys.retire("a", timedelta(0))
            assert tx.keys.find("a") is None
