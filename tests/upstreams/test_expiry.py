"""Images of upstreams go again: by their last pull, or by the size of all; what clients have pushed never."""

import json
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.rows import BlobRow
from dualreg.cli import main
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance.gc import Collection
from dualreg.registry import Registry
from dualreg.registry.garbage import Garbage
from dualreg.registry.kept import Keeping
from dualreg.registry.provenance import Provenance
from dualreg.registry.uploads import Uploads
from dualreg.settings import Settings
from tests.builders import Image, image, layer
from tests.conftest import Clock

URL, NAME, OWN = "https://one.example", RepositoryName("hub/app"), RepositoryName("own")
DAY = timedelta(days=1)
BASE = layer({"base": b"0" * 10_000})


def _image(number: int) -> Image:
    return image(BASE, layer({f"{number}": bytes([number]) * 1000}))


IMAGES = [_image(number) for number in range(4)]


@pytest.fixture
def kept(registry: Registry, clock: Clock) -> Registry:
    """A registry with an image for each of four days, and one that a client has pushed before."""
    own = _image(9)
    for blob in own.blobs.values():
        registry.uploads.ingest(OWN, [blob])
    registry.manifests.put(OWN, Tag("1"), own.media_type, own.manifest)
    for number, each in enumerate(IMAGES):
        registry.manifests.put(
            NAME, Tag(f"{number}"), each.media_type, each.manifest, provenance=Provenance(upstream=URL)
        )
        for digest, blob in each.blobs.items():
            found = BlobRow(digest, len(blob))
            if not registry.incoming.link(NAME, found):
                with registry.incoming.receive(NAME, found, lambda _: None) as receiving:
                    receiving.write(iter([blob]))
                    receiving.finish(NAME)
        clock.advance(DAY)
    return registry


def _collect(
    registry: Registry, keeping: Keeping, *, dry_run: bool = False, **others: Keeping
) -> list[Digest]:
    """Collect; *others* are those of other prefixes of the same upstream."""
    by_prefix = {f"{prefix}/": each for prefix, each in others.items()}
    result = Collection(registry, dry_run, keeping={URL: {"": keeping, **by_prefix}}).run()
    return [each.digest for each in result.expired]


def _left(registry: Registry) -> list[Image]:
    return [each for each in IMAGES if registry.manifests.peek(NAME, each.digest)]


def test_images_expire_by_their_last_pull(kept: Registry) -> None:
    """One that is pulled stays; a dry run says the same, and changes nothing."""
    kept.tags.record_pull(NAME, Tag("0"))
    kept.tags.pulls.flush()
    keeping = Keeping(age=2 * DAY)
    expected = [IMAGES[1].digest]
    assert _collect(kept, keeping, dry_run=True) == expected
    assert len(_left(kept)) == 4
    assert _collect(kept, keeping) == expected
    assert _left(kept) == [IMAGES[0], IMAGES[2], IMAGES[3]]
    assert _collect(kept, keeping) == []
    assert kept.tags.list_all(OWN) == (Tag("1"),)


def test_a_brief_dry_run(kept: Registry, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes long: large upstreams, too many uploads, staged bytes, and what is kept."""
    for _ in range(3):
        kept.uploads.start(OWN)
    clock.advance(kept.uploads.ttl + DAY)
    monkeypatch.setattr(Uploads, "strays", None)
    monkeypatch.setattr(Garbage, "kept", None)
    found = {}
    for brief in (3, 4):
        keeping = {URL: {"": Keeping(age=DAY)}, "https://other.example": {"": Keeping()}}
        result = Collection(kept, dry_run=True, keeping=keeping, brief=brief).run()
        found[brief] = len(result.expired), result.idle_uploads, result.complete
    assert found == {3: (0, 3, False), 4: (4, 3, True)}
    result = Collection(kept, dry_run=True, keeping={URL: {"": Keeping()}}, brief=2).run()
    assert (result.idle_uploads, result.complete) == (2, False)
    assert Collection(kept, dry_run=True, keeping={URL: {"": Keeping()}}, brief=3).run().complete


def test_images_expire_by_size(kept: Registry) -> None:
    """Those that were used longest ago; what several have counts once."""
    images = IMAGES[2:]
    blobs = {digest: len(blob) for each in images for digest, blob in each.blobs.items()}
    size = sum(blobs.values()) + sum(len(each.manifest) for each in images)
    assert _collect(kept, Keeping(size=size)) == [IMAGES[1].digest, IMAGES[0].digest]
    assert _left(kept) == images
    assert _collect(kept, Keeping(size=size - 1)) == [IMAGES[2].digest]
    assert _left(kept) == images[1:]
    assert kept.tags.list_all(OWN) == (Tag("1"),)


def test_the_longest_prefix_of_an_upstream_counts(kept: Registry) -> None:
    """Several prefixes may have the same upstream, each with its own limits."""
    assert _collect(kept, Keeping(age=DAY), hub=Keeping()) == []
    assert _collect(kept, Keeping(), hub=Keeping(size=0), hubs=Keeping(), dry_run=True)
    assert _collect(kept, Keeping(), hub=Keeping(age=3 * DAY)) == [IMAGES[0].digest]


def test_two_settings_of_one_upstream(tmp_path: Path) -> None:
    """The command keeps images as the setting says under whose prefix they are."""
    settings = Settings(data=tmp_path, audit="off")
    prepare(settings)
    with closing(open_registry(settings, alone=True)) as opened:
        for name in ("hub/app", "app"):
            made, provenance = IMAGES[0], Provenance(upstream=URL)
            opened.manifests.put(
                RepositoryName(name), Tag("1"), made.media_type, made.manifest, provenance=provenance
            )
    limited = {"url": URL, "keep_size": 1}
    tables = {"hub/*": limited, "*": {"url": URL, "namespaces": ["mirror"]}}
    env = {"DUALREG_CONFIG": None, "DUALREG_AUDIT": "off", "DUALREG_UPSTREAMS": json.dumps(tables)}
    result = CliRunner().invoke(main, ["gc", "--dry-run", "--json", "--data", str(tmp_path)], env=env)
    assert [each["repository"] for each in json.loads(result.stdout)["expired"]] == ["hub/app"]


def test_nothing_expires_without_a_limit(kept: Registry) -> None:
    """That is the default."""
    assert _collect(kept, Keeping()) == []
    assert len(_left(kept)) == 4


def test_immutable_tags_do_not_expire(kept: Registry) -> None:
    """Whatever limits there are: only others go, and a dry run says the same."""
    kept.immutability.add("hub/*:1")
    others = {each.digest for each in IMAGES} - {IMAGES[1].digest}
    for dry_run in (True, False):
        assert {*_collect(kept, Keeping(age=timedelta(), size=0), dry_run=dry_run)} == others
    assert _left(kept) == [IMAGES[1]]
