"""Facts of layers of V1 images: what reading one found out, so that it need not be read again."""

import struct
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass

from dualreg.catalog.rows import BlobRow
from dualreg.image.digest import CANONICAL, HEX_DIGITS, Digest

#: How facts are packed: size, modification time, whether they are verified; then the four digests.
_HEAD = "<qq?"
_PREFIX, _BYTES = f"{CANONICAL}:", HEX_DIGITS[CANONICAL] // 2


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """What reading the layer of a V1 image found out.

    Attributes:
        size: In bytes.
        mtime: Of the file that was read, in nanoseconds. If it and the size are unchanged, so is the layer.
        json: The digest of the image's JSON.
        layer: The digest of the layer.
        checksum: The payload checksum of the image.
        verified: Whether a checksum that the source states proves the layer.
    """

    size: int
    mtime: int
    json: str
    layer: str
    diff_id: str
    checksum: str
    verified: bool

    @property
    def blob(self) -> BlobRow:
        """The layer."""
        return BlobRow(Digest.parse(self.layer), self.size)


class KnownLayers(MutableMapping[str, LayerFacts]):
    """The facts of layers by image ID: packed, as there may be millions."""

    def __init__(self) -> None:
        self._packed = dict[str, bytes | LayerFacts]()

    def __getitem__(self, id_: str) -> LayerFacts:
        found = self._packed[id_]
        return _unpack(found) if isinstance(found, bytes) else found

    def __setitem__(self, id_: str, facts: LayerFacts) -> None:
        self._packed[id_] = _pack(facts)

    def __delitem__(self, id_: str) -> None:
        del self._packed[id_]

    def __contains__(self, id_: object) -> bool:
        return id_ in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)

    def clear(self) -> None:
        """Forget all of them."""
        self._packed.clear()


def _pack(facts: LayerFacts) -> bytes | LayerFacts:
    """Return *facts* packed; as they are, if a damaged journal says something else than digests."""
    texts = [facts.json, facts.layer, facts.diff_id, facts.checksum]
    try:
        digests = [bytes.fromhex(text.removeprefix(_PREFIX)) for text in texts]
        if [f"{_PREFIX}{each.hex()}" for each in digests] != texts or {*map(len, digests)} != {_BYTES}:
            return facts
        return b"".join((struct.pack(_HEAD, facts.size, facts.mtime, facts.verified), *digests))
    except (AttributeError, ValueError, struct.error):
        return facts


def _unpack(packed: bytes) -> LayerFacts:
    size, mtime, verified = struct.unpack_from(_HEAD, packed)
    begins = range(struct.calcsize(_HEAD), len(packed), _BYTES)
    digests = (f"{_PREFIX}{packed[begin : begin + _BYTES].hex()}" for begin in begins)
    json, layer, diff_id, checksum = digests
    return LayerFacts(size, mtime, json, layer, diff_id, checksum, verified)
