"""V1 images that are recorded together: what is wrong with one, and what other threads wait for."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from typing import BinaryIO

import pytest

from dualreg.image.names import ImageId, RepositoryName
from dualreg.migrate.findings import Broken
from dualreg.migrate.journal import Journal
from dualreg.migrate.sources.base import SourceBytes, SourceImage
from dualreg.migrate.v1.images import ImageImporter
from dualreg.registry import Registry
from tests.migrate.trees import LAYERS, image_id

ONE, TWO = RepositoryName("team/one"), RepositoryName("team/two")
#: Seconds for which another thread is waited for.
PATIENCE = 20


@pytest.fixture
def importer(tmp_path: Path, opened: Registry) -> ImageImporter:
    """What imports images of no source in particular."""
    return ImageImporter(opened, Journal(tmp_path / "journals", opened.now(), "source"))


def _image(name: str, parent: SourceImage | None = None) -> SourceImage:
    """Return an image with its own layer."""
    id_, layer = ImageId(image_id(name)), LAYERS[name]
    document = json.dumps({"id": id_} | ({"parent": parent.id} if parent else {})).encode()
    held = SourceBytes(len(layer), lambda: BytesIO(layer))
    return SourceImage(id_, parent and parent.id, lambda: document, held)


def _has(importer: ImageImporter, repository: RepositoryName, chain: Iterable[SourceImage]) -> list[bool]:
    """Return which images of a chain a repository has."""
    return [importer.registry.v1_images.peek(repository, each.id) is not None for each in chain]


def _when_opened(image: SourceImage, call: Callable[[], object]) -> SourceImage:
    """Return an image; *call* is called before its layer is read."""

    def opened() -> BinaryIO:
        call()
        return image.layer.open()

    return replace(image, layer=replace(image.layer, open=opened))


def _corrupt(image: SourceImage, _: ImageImporter) -> SourceImage:
    return replace(image, checksums=("sha256:" + "0" * 64,))


def _changing(image: SourceImage, _: ImageImporter) -> SourceImage:
    was_read = Event()
    changing = replace(image, json=lambda: image.json() + b" " * was_read.is_set())
    return _when_opened(changing, was_read.set)


def _contradicted(image: SourceImage, importer: ImageImporter) -> SourceImage:
    """Let the repository have another image under this ID, without a parent."""
    ImageImporter(importer.registry, importer.journal).add(ONE, [replace(image, parent=None)])
    return image


@pytest.mark.parametrize("spoil", [_corrupt, _changing, _contradicted])
def test_images_before_a_broken_one_are_imported(
    spoil: Callable[[SourceImage, ImageImporter], SourceImage], importer: ImageImporter, data: Path
) -> None:
    """Those after it are not, and nothing stays staged."""
    base = _image("a")
    broken = _image("b", base)
    top = _image("c", broken)
    spoilt = spoil(broken, importer)
    with pytest.raises(Broken, match=broken.id):
        importer.add(ONE, [base, spoilt, top])
    assert _has(importer, ONE, [base, top]) == [True, False]
    assert not [*(data / "uploads").glob("*")]
    assert importer.add(ONE, [base]) == 0


def _import_in_threads(importer: ImageImporter, *chains: tuple[RepositoryName, list[SourceImage]]) -> None:
    threads = [Thread(target=importer.add, args=each, daemon=True) for each in chains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [_has(importer, *chain) for chain in chains] == [[True] * len(chain) for _, chain in chains]


def test_reading_a_layer_delays_no_other_thread(importer: ImageImporter) -> None:
    """It imports what the store has, and reads another layer, while the first one is being read."""
    base = _image("a")
    importer.add(RepositoryName("team/base"), [base])
    is_read, delays = Event(), list[bool]()
    slow = _when_opened(_image("b", base), lambda: delays.append(is_read.wait(PATIENCE / 2)))
    other = _when_opened(_image("c", base), is_read.set)
    _import_in_threads(importer, (ONE, [base, slow]), (TWO, [base, other]))
    assert all(delays)


def test_threads_that_read_images_in_another_order(importer: ImageImporter) -> None:
    """They do not wait for each other in a circle."""
    first, second = _image("a"), _image("b")
    met = {first.id: Event(), second.id: Event()}

    def meet(image: SourceImage, other: SourceImage) -> None:
        met[image.id].set()
        met[other.id].wait(PATIENCE)

    one = _when_opened(first, lambda: meet(first, second))
    two = _when_opened(second, lambda: meet(second, first))
    _import_in_threads(importer, (ONE, [one, two]), (TWO, [two, one]))
