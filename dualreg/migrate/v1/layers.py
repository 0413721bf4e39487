"""Layers: an image's layer on its way from the old registry's file into the store, read once."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from dualreg.errors import ImageInvalid
from dualreg.image.digest import Digest, Hasher
from dualreg.image.layer import DiffIdHasher
from dualreg.image.tar import members
from dualreg.image.tarsum import is_tarsum, verify_tarsum
from dualreg.image.v1_image import payload_hasher
from dualreg.migrate.findings import Broken, FindingKind
from dualreg.migrate.journal import LayerFacts
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.transfer import LinkMode, chunks_of, show, stage
from dualreg.registry.uploads import Uploads
from dualreg.storage.staging import Staging

#: Algorithms whose sums have no length of their own, so that none can have been stated.
_ENDLESS = frozenset({"shake_128", "shake_256"})


class _Hash(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class StagedLayer:
    """A layer's bytes, staged in the store, with what reading them found."""

    bytes: Staging
    facts: LayerFacts


@contextmanager
def staged(uploads: Uploads, source: SourceImage, way: LinkMode) -> Iterator[StagedLayer]:
    """Stage the layer of *source* for the block; the payload checksum, digest and diff id come from one pass.

    What is hashed is what was staged, whatever happens to the old registry's file meanwhile.

    Args:
        way: See ``transfer.stage``.

    Raises:
        Broken: the layer is not what was stated of it, or does not decompress.
    """
    passed = _Reading(source)
    with uploads.staging() as layer:
        with passed.trouble():
            stage(layer, source.layer, way, passed.update, where=source.id)
        facts = passed.facts(lambda: chunks_of(layer.open, ""))
        yield StagedLayer(layer, facts)


def examine(source: SourceImage) -> LayerFacts:
    """Read a layer through, and leave it where it is.

    Raises:
        Broken: as ``staged``.
    """
    passed = _Reading(source)
    with passed.trouble():
        show(source.layer, passed.update, source.id)
    return passed.facts(lambda: chunks_of(source.layer.open, source.id))


class _Reading:
    """One pass over a layer: its digest, its payload checksums, and the digest of what is inside."""

    def __init__(self, source: SourceImage) -> None:
        self._source = source
        self._digest = Hasher()
        self._json = source.json()
        self._stated = source.checksums
        self._payload = payload_hasher(self._json)
        self._others = _other_payloads(self._stated, self._json + b"\n")
        self._diff_id = DiffIdHasher()
        self._size = 0

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        for hasher in (self._digest, self._payload, self._diff_id):
            hasher.update(data)
        for other in self._others.values():
            other.update(data)

    @contextmanager
    def trouble(self) -> Iterator[None]:
        """Say of the image what goes wrong in the block."""
        try:
            yield
        except ImageInvalid as error:
            raise self._damaged(error.reason) from error

    def facts(self, reread: Callable[[], Iterable[bytes]]) -> LayerFacts:
        """Return what was found, held against what was stated of it."""
        with self.trouble():
            inside = self._diff_id.digest()
        verified = self._is_proven(reread)
        if not verified:
            with self.trouble():
                deque(members(reread()), maxlen=0)  # at least it has to be a tar
        return LayerFacts(
            size=self._size,
            mtime=self._source.layer.changed,
            json=str(Digest.of(self._json)),
            layer=str(self._digest.digest()),
            diff_id=str(inside),
            checksum=str(self._payload.digest()),
            verified=verified,
        )

    def _is_proven(self, reread: Callable[[], Iterable[bytes]]) -> bool:
        """Tell whether something that was stated proves the layer.

        Raises:
            Broken: something that was stated says that it is another one.
        """
        found = {name: f"{name}:{hasher.hexdigest()}" for name, hasher in self._others.items()}
        found["sha256"] = str(self._payload.digest())
        payloads = [stated for stated in self._stated if _algorithm(stated) in found]
        if any(stated.lower() == found[_algorithm(stated)] for stated in payloads):
            return True
        if payloads:
            real = found[_algorithm(payloads[0])]
            raise self._damaged(f"its checksum is {real}, stated was {payloads[0]}")
        for stated in filter(is_tarsum, self._stated):
            if verify_tarsum(stated, self._json, reread()):
                return True
        if self._source.marked:
            text = "marked as being pushed, and nothing proves it whole"
            raise Broken(FindingKind.PARTIAL, self._source.id, text)
        return False

    def _damaged(self, text: str) -> Broken:
        """A push that was given up explains it, if there is a mark of one."""
        return Broken(
            FindingKind.PARTIAL if self._source.marked else FindingKind.CORRUPT, self._source.id, text
        )


def _other_payloads(stated: Iterable[str], prefix: bytes) -> dict[str, _Hash]:
    """Return hashers for payload checksums that are stated in other algorithms than the usual one, by name.

    Source: docker-registry 0.5, ``checksums.py`` (compute_simple): ``hashlib.new``, of whatever name.
    """
    hashers: dict[str, _Hash] = {}
    for name in {*map(_algorithm, stated)} & hashlib.algorithms_available - {"sha256", *_ENDLESS}:
        with suppress(ValueError):  # known by name, but switched off in this system's OpenSSL
            hashers[name] = hashlib.new(name, prefix)
    return hashers


def _algorithm(stated: str) -> str:
    return stated.partition(":")[0].lower()
