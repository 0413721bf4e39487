"""Layers of V1 images: read once, while they are staged, for their digest, diff ID and checksums."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.layer import LayerHasher
from dualreg.image.tar import members
from dualreg.image.tarsum import is_tarsum, verify_tarsum
from dualreg.image.v1_image import payload_hasher
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.layer_facts import LayerFacts
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.transfer import LinkMode, StagedBytes, chunks_of, feed, stage
from dualreg.registry.uploads import Uploads
from dualreg.storage.staging import Staging

#: Algorithms without a fixed length of output, which hexdigest() cannot do without.
_VARIABLE_LENGTH = frozenset({"shake_128", "shake_256"})


class _Hash(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StagedLayer:
    """A layer's bytes, staged in the store, with what was found out about them."""

    bytes: Staging
    facts: LayerFacts


@contextmanager
def staged(
    uploads: Uploads, source: SourceImage, link: LinkMode, check: Callable[[bytes], None]
) -> Iterator[StagedLayer]:
    """Stage the layer of *source* for the block; its payload checksum, digest and diff ID come from one pass.

    The bytes that are hashed are those that were staged, even if the source's file changes meanwhile.

    Args:
        link: See ``transfer.stage``.
        check: Called with each piece of the layer.

    Raises:
        Broken: the layer contradicts a stated checksum, cannot be read, or does not decompress.
    """
    with uploads.staging() as layer:
        yield StagedLayer(layer, stage_layer(layer, source, link, check))


def stage_layer(
    layer: StagedBytes, source: SourceImage, link: LinkMode, check: Callable[[bytes], None]
) -> LayerFacts:
    """Stage the layer of *source* as ``staged``, which says more, as *layer*; return what was found out."""
    reading = _Reading(source)
    with reading.damage_reported():
        stage(layer, source.layer, link, reading.update, check, where=source.id)
    return reading.facts(lambda: chunks_of(layer.open, ""))


def read_layer(source: SourceImage) -> LayerFacts:
    """Read a layer, without staging it, and return what was found out about it.

    Raises:
        Broken: as ``staged``.
    """
    reading = _Reading(source)
    with reading.damage_reported():
        feed(source.layer, reading.update, source.id)
    return reading.facts(lambda: chunks_of(source.layer.open, source.id))


class _Reading:
    """One pass over a layer, for its digest, its payload checksums and its diff ID."""

    def __init__(self, source: SourceImage) -> None:
        self._source = source
        self._json = source.json()
        self._stated = source.checksums
        self._payload = payload_hasher(self._json)
        self._others = _other_payloads(self._stated, self._json + b"\n")
        self._layer = LayerHasher()
        self._size = 0

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self._size += len(data)
        self._payload.update(data)
        self._layer.update(data)
        for other in self._others.values():
            other.update(data)

    @contextmanager
    def damage_reported(self) -> Iterator[None]:
        """Turn ImageInvalid of the block into Broken, with the id of the image."""
        try:
            yield
        except ImageInvalid as error:
            raise self._damaged(error.reason) from error

    def facts(self, reread: Callable[[], Iterable[bytes]]) -> LayerFacts:
        """Return what was found out.

        Args:
            reread: Reads the layer again, which some checks need.

        Raises:
            Broken: it is not a layer, or contradicts a stated checksum.
        """
        with self.damage_reported():
            diff_id = self._layer.diff_id()
        verified = self._is_as_recorded(diff_id) or self._is_proven(reread)
        if not verified:
            with self.damage_reported():  # it must at least be a tar, and a whole one if it may be cut
                deque(members(reread(), marked_end=self._source.marked), maxlen=0)
        return LayerFacts(
            size=self._size,
            mtime=self._source.layer.changed,
            json=str(Digest.of(self._json)),
            layer=str(self._layer.digest()),
            diff_id=str(diff_id),
            checksum=str(self._payload.digest()),
            verified=verified,
        )

    def _is_as_recorded(self, diff_id: Digest) -> bool:
        """Return whether another registry has recorded the layer, which must then be the same.

        Raises:
            Broken: it is another one.
        """
        recorded = self._source.recorded
        if recorded is None:
            return False
        found = (self._layer.digest(), diff_id, self._payload.digest())
        if found != (recorded.layer, recorded.diff_id, recorded.checksum or found[2]):
            raise self._damaged(f"its layer is not the one that was recorded, {recorded.layer}")
        return True

    def _is_proven(self, reread: Callable[[], Iterable[bytes]]) -> bool:
        """Return whether a stated checksum proves the layer.

        Raises:
            Broken: a stated checksum contradicts it, or its push was never finished.
        """
        found = {name: f"{name}:{hasher.hexdigest()}" for name, hasher in self._others.items()}
        found["sha256"] = str(self._payload.digest())
        payloads = [stated for stated in self._stated if _algorithm(stated) in found]
        if any(stated.lower() == found[_algorithm(stated)] for stated in payloads):
            return True
        if payloads:
            real = found[_algorithm(payloads[0])]
            raise self._damaged(f"its checksum is {real}, expected {payloads[0]}")
        for stated in filter(is_tarsum, self._stated):
            if verify_tarsum(stated, self._json, reread()):
                return True
        if self._source.marked and self._stated:
            text = "marked as being pushed, and no checksum proves it complete"
            raise Broken(FindingKind.PARTIAL, self._source.id, text)
        return False

    def _damaged(self, text: str) -> Broken:
        """Return the error for a damaged layer; a mark of an unfinished push explains it."""
        return Broken(
            FindingKind.PARTIAL if self._source.marked else FindingKind.CORRUPT, self._source.id, text
        )


def _other_payloads(stated: Iterable[str], prefix: bytes) -> dict[str, _Hash]:
    """Return hashers for the algorithms of stated payload checksums other than SHA-256, by name.

    Source: docker-registry 0.5, ``checksums.py`` (compute_simple): ``hashlib.new``, of whatever name.
    """
    hashers: dict[str, _Hash] = {}
    for name in {*map(_algorithm, stated)} & hashlib.algorithms_available - {"sha256", *_VARIABLE_LENGTH}:
        with suppress(ValueError):  # disabled in this system's OpenSSL
            hashers[name] = hashlib.new(name, prefix)
    return hashers


def _algorithm(stated: str) -> str:
    return stated.partition(":")[0].lower()
