"""Verify: what is here, held against the source, tag by tag and layer by layer; no journal is asked."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import BinaryIO

from dualreg.errors import RegistryError
from dualreg.faults import BlobMissing
from dualreg.image.digest import Digest, Hasher
from dualreg.image.formats import Role
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Action, Entry
from dualreg.migrate.sources.v1_tree import SourceImage
from dualreg.migrate.survey import Survey
from dualreg.registry import Registry
from dualreg.storage.base import read_chunks


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a tag, if anything."""

    entry: Entry
    problems: tuple[str, ...]


@dataclass
class Verifier:
    """Compares a source with what became of it.

    Attributes:
        quick: Compare sizes only; otherwise every layer is read, in the source and here, each once.
    """

    registry: Registry
    found: Survey
    quick: bool = False
    _hashed: Callable[[str], str] = field(init=False)
    _stored: Callable[[Digest], str] = field(init=False)

    def __post_init__(self) -> None:
        """Remember what was hashed."""
        self._hashed = cache(lambda id_: _hash(self.found.images[id_].layer.open("rb", buffering=0)))
        self._stored = cache(lambda digest: _hash(self.registry.state.store.open(digest)))

    def all(self, entries: Iterable[Entry], jobs: int) -> Iterator[Verdict]:
        """Yield a verdict on every entry of the plan that is not skipped, in its order."""
        wanted = [entry for entry in entries if entry.action is Action.IMPORT]
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(lambda entry: Verdict(entry, tuple(self._problems(entry))), wanted)

    def _problems(self, entry: Entry) -> Iterator[str]:
        try:
            repository, tag = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag)
            seen = self.registry.bridge.resolve(repository, tag)
            if seen != entry.image:
                yield f"the tag is another image here: {seen}"
                return
            chain = self.found.chain(entry.image)
            rows = self.registry.v1_images.ancestry(repository, ImageId(seen))[::-1]
        except Broken as error:
            yield f"the source is broken: {error}"
            return
        except RegistryError as error:
            yield f"not here: {error}"
            return
        if [row.id for row in rows] != [member.id for member in chain]:
            yield "its ancestors are others"
            return
        for member, row in zip(chain, rows, strict=True):
            if row.layer is None or self.registry.v1_images.json(row) != member.json:
                yield f"{row.id}: its JSON is another"
            elif (row.layer_size or 0) != member.size:
                yield f"{row.id}: its layer has {row.layer_size} bytes, not {member.size}"
            elif not self.quick:
                yield from self._compare(member, row.layer)
        yield from self._as_v2(repository, tag, [row.diff_id for row in rows])

    def _compare(self, member: SourceImage, layer: Digest) -> Iterator[str]:
        if self._hashed(member.id) != str(layer):
            yield f"{member.id}: its layer in the source is another one now"
        try:
            if self._stored(layer) != str(layer):
                yield f"{member.id}: its layer here is damaged"
        except BlobMissing:
            yield f"{member.id}: the bytes of its layer are not here"

    def _as_v2(
        self, repository: RepositoryName, tag: Tag, diff_ids: Iterable[Digest | None]
    ) -> Iterator[str]:
        """Look at the tag as V2 clients do: all that the manifest names is here, and of these files."""
        with self.registry.state.catalog.read() as tx:
            row = tx.manifests.find(repository, tag)  # whether the setting `bridge` shows it or not
        if row is None:
            yield "the tag is gone"
            return
        manifest = parse(row.media_type, self.registry.manifests.payload(row))
        for child in manifest.children:
            try:
                self.registry.blobs.stat(repository, child.descriptor.digest)
            except RegistryError as error:
                yield f"{child.descriptor.digest} of its manifest is not here: {error}"
        (config,) = manifest.described(Role.CONFIG)
        text = self.registry.manifests.payloads.read(config.digest).decode()
        layers = len(manifest.described(Role.LAYER))
        named = sum(str(diff_id) in text for diff_id in diff_ids)
        if named < layers:
            yield f"its config names {named} of {layers} layers' files"


def _hash(reader: BinaryIO) -> str:
    hasher = Hasher()
    with reader:
        for chunk in read_chunks(reader):
            hasher.update(chunk)
    return str(hasher.digest())
