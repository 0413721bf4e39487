"""Policies: their version, and what two who write at once make of an immutable tag."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.rows import ImmutableRow
from dualreg.errors import TagImmutable
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.conftest import Clock, GuardedStore
from tests.properties.registries import push_v2

NAME, TAG = RepositoryName("team/app"), Tag("v1")
IMAGES = [builders.image(builders.layer({"f": bytes([number])})) for number in range(8)]


class PoliciesContract:
    """Rules that operators make while clients push."""

    def test_rules_of_immutable_tags(self, catalog: Catalog, clock: Clock) -> None:
        """Each is there once; every change is another version, which comes along with a lock."""
        versions = list[str | None]()

        def look() -> None:
            with catalog.begin() as tx:
                locked = tx.repositories.ensure(NAME)
                assert locked.policies == tx.policies.version()
                versions.append(locked.policies)

        look()
        for change in (
            lambda tx: tx.policies.add_immutable("b:*"),
            lambda tx: tx.policies.add_immutable("a:*"),
            lambda tx: not tx.policies.add_immutable("a:*"),
            lambda tx: tx.policies.remove_immutable("b:*"),
            lambda tx: not tx.policies.remove_immutable("b:*"),
        ):
            with catalog.begin() as tx:
                tx.policies.change()
                assert change(tx)
            look()
        assert versions[0] is None
        assert len({*versions}) == 6
        with catalog.read() as tx:
            assert tx.policies.immutable() == [ImmutableRow("a:*", clock())]

    @pytest.mark.parametrize("exists", [False, True])
    def test_an_immutable_tag_is_pushed_once(self, catalog: Catalog, *, exists: bool) -> None:
        """Of those who push different images at once, one succeeds; if there is the tag, none does."""
        registry = build_registry(catalog, GuardedStore())
        registry.immutability.add("team/*:v*")
        for image in IMAGES:
            push_v2(registry, NAME, Tag("latest"), image)
        if exists:
            push_v2(registry, NAME, TAG, IMAGES[0])
        gate = threading.Barrier(len(IMAGES) - 1)

        def push(image: builders.Image) -> Digest | None:
            gate.wait()
            with suppress(TagImmutable):
                return registry.manifests.put(NAME, TAG, image.media_type, image.manifest).manifest.digest
            return None

        with ThreadPoolExecutor(len(IMAGES) - 1) as pool:
            pushed = [digest for digest in pool.map(push, IMAGES[1:]) if digest]
        assert len(pushed) == (0 if exists else 1)
        current = registry.manifests.find(NAME, TAG)
        assert current.digest == (IMAGES[0].digest if exists else pushed[0])

    def test_a_rule_holds_once_it_is_made(self, catalog: Catalog) -> None:
        """Clients move a tag all the time: after the rule was added, by whichever process, it stays."""
        writers = [build_registry(catalog, GuardedStore()) for _ in range(2)]
        for registry in writers:
            for image in IMAGES:
                push_v2(registry, NAME, TAG, image)
        ended = threading.Event()

        def move(registry: Registry) -> int:
            refused = 0
            while not (ended.is_set() and refused):
                for image in IMAGES:
                    try:
                        registry.manifests.put(NAME, TAG, image.media_type, image.manifest)
                    except TagImmutable:
                        refused += 1
            return refused

        with ThreadPoolExecutor(2) as pool:
            moving = [pool.submit(move, registry) for registry in writers]
            for _ in range(3):
                writers[0].immutability.add("team/app:v1")
                seen = {writers[0].manifests.find(NAME, TAG).digest for _ in range(20)}
                assert len(seen) == 1
                writers[0].immutability.remove("team/app:v1")
            writers[0].immutability.add("*")
            ended.set()
            assert all(each.result() for each in moving)
