"""Details of tags: platforms without attestations, signatures, and other tags, by the same few queries."""

from collections.abc import Sequence
from functools import partial
from threading import get_ident
from typing import Any

import pytest
from sqlalchemy import event

from dualreg.catalog.orders import TagOrder
from dualreg.catalog.tag_details import ALIASES_LIMIT
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, tag_details
from dualreg.registry.document_cache import DocumentCache
from dualreg.registry.tag_details import TagDetail, TagDetails
from dualreg.storage.base import StoreUnavailable
from tests import builders, signers
from tests.properties.registries import push_v1, push_v2

NAME, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
PLAIN = builders.image(builders.layer({"a": b"1"}))
ARM = builders.image(builders.layer({"a": b"2"}), oci=True, architecture="arm64", variant="v8")
KEY = signers.key_of("ecdsa")
SLSA = "https://slsa.dev/provenance/v1"


def details(registry: Registry) -> dict[str, TagDetail]:
    """Return the details of all tags."""
    page, _ = registry.tags.ordered(NAME, TagOrder.NAME, limit=100)
    return {str(tag): found for tag, found in registry.tag_details.of(NAME, page.rows).items()}


def test_platforms(registry: Registry) -> None:
    """Of an index, those of its images, each once; of an image, what its config says; of others, none."""
    for tag, image in (("plain", PLAIN), ("arm", ARM)):
        push_v2(registry, NAME, Tag(tag), image)
    push_v1(registry, NAME, Tag("old"), builders.v1_chain(builders.layer({"a": b"3"})))
    attestation = builders.artifact(media_types.OCI_CONFIG, b'{"architecture": "unknown", "os": "unknown"}')
    push_v2(registry, NAME, Tag("attestation"), attestation)
    about = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(ARM.digest),
    }
    platforms = [{"os": "linux", "architecture": "amd64"}, {"os": "linux", "architecture": "arm64"}]
    entries = [
        builders.descriptor(image.media_type, image.manifest, platform=platform, **more)
        for image, platform, more in (
            (PLAIN, platforms[0], {}),
            (ARM, platforms[1], {}),
            (ARM, platforms[1], {}),
            (attestation, {"os": "unknown", "architecture": "unknown"}, {"annotations": about}),
        )
    ]
    registry.manifests.put(NAME, Tag("index"), media_types.OCI_INDEX, builders.index_of(*entries))
    push_v2(registry, NAME, Tag("chart"), builders.artifact("application/vnd.cncf.helm.config", b"{}"))
    broken = builders.image(builders.layer({"a": b"4"}))
    push_v2(registry, NAME, Tag("lost"), broken)
    registry.state.store.delete(
        next(digest for digest, blob in broken.blobs.items() if blob == broken.config)
    )
    assert {tag: found.platforms for tag, found in details(registry).items()} == {
        "plain": ("linux/amd64",),
        "arm": ("linux/arm64/v8",),
        "old": ("linux/amd64",),
        "attestation": ("unknown/unknown",),
        "index": ("linux/amd64", "linux/arm64"),
        "chart": (),
        "lost": (),
    }


@pytest.mark.parametrize(
    ("attached", "signed"),
    [
        ([], False),
        ([signers.cosign_signature(PLAIN, KEY)], True),
        ([signers.cosign_bundle(PLAIN, KEY)], True),
        ([signers.cosign_bundle(PLAIN, KEY, SLSA)], False),
        ([signers.cosign_bundle(PLAIN, KEY, SLSA), signers.cosign_bundle(PLAIN, KEY)], True),
        ([signers.notation_signature(PLAIN, signers.self_signed("me", KEY))], True),
        ([signers.referrer(PLAIN, "application/vnd.cyclonedx+json", "application/json", b"{}")], False),
        ([signers.attached(PLAIN, "att", [])], False),
        ([signers.cosign_signature(ARM, KEY)], False),
    ],
    ids=["nothing", "tag", "bundle", "attestation", "both", "notation", "bill", "statement", "another"],
)
def test_signatures(registry: Registry, attached: Sequence[signers.Pushed], signed: bool) -> None:  # noqa: FBT001 -- a column
    """By the tag of cosign, and as referrers: those that are signatures, of this image in this repository."""
    push_v2(registry, NAME, Tag("v1"), PLAIN)
    push_v2(registry, OTHER, Tag("v1"), PLAIN)
    for each in attached:
        signers.push(registry, NAME, each)
    assert details(registry)["v1"].signed is signed
    page, _ = registry.tags.ordered(OTHER, TagOrder.NAME, limit=1)
    assert not registry.tag_details.of(OTHER, page.rows)[Tag("v1")].signed


def test_aliases(registry: Registry) -> None:
    """Other tags of the same manifest, in this repository; some of them, if there are many."""
    for tag in ("a", "b", "c"):
        push_v2(registry, NAME, Tag(tag), PLAIN)
    push_v2(registry, NAME, Tag("d"), ARM)
    push_v2(registry, OTHER, Tag("e"), PLAIN)
    found = {tag: (each.aliases, each.more) for tag, each in details(registry).items()}
    assert found == {
        "a": (("b", "c"), False),
        "b": (("a", "c"), False),
        "c": (("a", "b"), False),
        "d": ((), False),
    }
    for number in range(ALIASES_LIMIT - 3):
        push_v2(registry, NAME, Tag(f"n{number}"), PLAIN)
    counts = {(len(each.aliases), each.more) for tag, each in details(registry).items() if tag != "d"}
    assert counts == {(ALIASES_LIMIT - 1, False)}
    push_v2(registry, NAME, Tag("last"), PLAIN)
    found = {tag: (each.aliases, each.more) for tag, each in details(registry).items()}
    assert all(more and len(names) < ALIASES_LIMIT for tag, (names, more) in found.items() if tag != "d")


def test_documents_are_read_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many tags of a page point at the same manifest."""
    for tag, image in (("a", PLAIN), ("b", PLAIN), ("c", ARM)):
        push_v2(registry, NAME, Tag(tag), image)
    page, _ = registry.tags.ordered(NAME, TagOrder.NAME, limit=100)
    documents, asked = DocumentCache(registry.state.store, registry.integrity), list[Digest]()
    read = documents.read

    def note(digest: Digest) -> bytes:
        asked.append(digest)
        return read(digest)

    monkeypatch.setattr(documents, "read", note)
    found = TagDetails(registry.state, documents).of(NAME, page.rows)
    assert [each.platforms for each in found.values()] == [("linux/amd64",)] * 2 + [("linux/arm64/v8",)]
    assert len(asked) == len({*asked}) == 4


def test_a_failing_store(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is read of it; what is known of the catalog is shown."""
    read = list[Digest]()

    def fail(digest: Digest) -> bytes:
        read.append(digest)
        raise StoreUnavailable("no answer")

    for tag, image in (("a", PLAIN), ("b", PLAIN), ("c", ARM)):
        push_v2(registry, NAME, Tag(tag), image)
    page, _ = registry.tags.ordered(NAME, TagOrder.NAME, limit=100)
    documents = DocumentCache(registry.state.store, registry.integrity)
    monkeypatch.setattr(documents, "_read", fail)
    found = TagDetails(registry.state, documents).of(NAME, page.rows)
    assert {tag: (each.aliases, each.platforms) for tag, each in found.items()} == {
        "a": (("b",), ()),
        "b": (("a",), ()),
        "c": ((), ()),
    }
    assert len(read) == 1


def test_a_slow_store(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what takes longer than a second in all, the platforms are not shown; later they are."""
    now, images = [0.0], [builders.image(builders.layer({"a": bytes([number])})) for number in range(4)]
    for number, image in enumerate(images):
        push_v2(registry, NAME, Tag(f"t{number}"), image)
    page, _ = registry.tags.ordered(NAME, TagOrder.NAME, limit=100)
    documents = DocumentCache(registry.state.store, registry.integrity)
    read, monotonic = documents._read, partial(now.__getitem__, 0)

    def slow(digest: Digest) -> bytes:
        now[0] += 0.25
        return read(digest)

    monkeypatch.setattr(documents, "_read", slow)
    monkeypatch.setattr(tag_details, "monotonic", monotonic)
    shown = []
    for _ in range(3):
        found = TagDetails(registry.state, documents).of(NAME, page.rows)
        shown.append(sum(each.platforms == ("linux/amd64",) for each in found.values()))
    assert shown == [0, 4, 4]


def test_what_a_page_takes(registry: Registry) -> None:
    """As many statements for fifty tags as for one, which lock no rows."""
    seen, here = list[str](), get_ident()

    def note(*given: Any) -> None:
        if get_ident() == here and str(given[2]).startswith(("SELECT", "WITH")):
            seen.append(given[2])

    engine, counts = registry.state.catalog.engine, list[int]()
    event.listen(engine, "before_cursor_execute", note)
    for numbers in (range(1), range(1, 50)):
        for number in numbers:
            push_v2(registry, NAME, Tag(f"t{number}"), builders.image(builders.layer({f"{number}": b"x"})))
        page, _ = registry.tags.ordered(NAME, TagOrder.LARGEST, limit=50)
        seen.clear()
        assert len(registry.tag_details.of(NAME, page.rows)) == numbers.stop
        assert not any("FOR KEY SHARE" in text for text in seen)
        counts.append(len([text for text in seen if "pg_current_snapshot" not in text]))
    event.remove(engine, "before_cursor_execute", note)
    assert counts[0] == counts[1] <= 5
