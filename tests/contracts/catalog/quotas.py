"""Quotas under races: writers that come at once never have a byte more than fits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import QuotaRow
from dualreg.errors import QuotaExceeded
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry
from tests.conftest import GuardedStore

WRITERS, SIZE = 16, 100
NAMES = [RepositoryName(f"team/{number}") for number in range(3)]


def push(registry: Registry, name: RepositoryName, blob: bytes) -> bool:
    """Push a blob in a session; return whether it fits."""
    try:
        upload = registry.uploads.start(name)
        registry.uploads.finish(name, upload.id, Digest.of(blob), [blob])
    except QuotaExceeded as error:
        return error.used + error.needed <= error.limit  # which would be wrong, and count as success
    return True


def used(registry: Registry) -> int:
    """Return what is recorded to be used, which is what a count from scratch finds."""
    (quota,) = registry.quotas.list()
    assert registry.quotas.count(quota.pattern) == quota.used
    return quota.used


class QuotasContract:
    """Sixteen writers in three repositories, which two processes serve."""

    @pytest.mark.parametrize("shared", [False, True])
    def test_writers_stay_below_the_limit(self, catalog: Catalog, *, shared: bool) -> None:
        """As many blobs fit as do; one that several repositories get counts once."""
        store = GuardedStore()
        registries = [build_registry(catalog, store) for _ in range(2)]
        fits = 5
        registries[0].quotas.set(QuotaRow("team/*", fits * SIZE + SIZE - 1))
        gate = threading.Barrier(WRITERS)

        def write(number: int) -> bool:
            gate.wait()
            blob = f"{number // 4 if shared else number}".encode().ljust(SIZE)
            return push(registries[number % 2], NAMES[number % 3], blob)

        with ThreadPoolExecutor(WRITERS) as pool:
            done = [*pool.map(write, range(WRITERS))]
        assert sum(done) == (WRITERS if shared else fits)
        assert used(registries[0]) == (WRITERS // 4 if shared else fits) * SIZE

    def test_a_quota_counts_what_is_pushed_meanwhile(self, catalog: Catalog) -> None:
        """While clients push and delete, an operator sets and removes it: nothing is missed."""
        registries = [build_registry(catalog, GuardedStore()) for _ in range(2)]
        ended = threading.Event()

        def write(number: int) -> None:
            registry, count = registries[number % 2], 0
            while not ended.is_set() and count < 500:
                name, blob = NAMES[count % 3], f"{(number + count) % 7}".encode().ljust(SIZE)
                assert push(registry, name, blob)
                if count % 2:
                    registry.blobs.release(name, Digest.of(blob), delete_bytes=False)
                count += 1

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, number) for number in range(4)]
            for _ in range(6):
                registries[0].quotas.set(QuotaRow("team/*", 1 << 30))
                registries[0].quotas.remove("team/*")
            registries[0].quotas.set(QuotaRow("team/*", 1 << 30))
            ended.set()
            for each in writing:
                each.result()
        assert used(registries[0]) == registries[0].usage.namespaces(1, limit=1).rows[0].bytes
