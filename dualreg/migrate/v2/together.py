"""Import of many new tags with their manifests and small blobs in one step: see ``migrate.together``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dualreg.catalog.rebuilding import FoundTag
from dualreg.catalog.rows import BlobRow
from dualreg.errors import RegistryError
from dualreg.image.digest import Digest
from dualreg.image.formats import Role
from dualreg.image.layer import EMPTY_LAYER, empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import Imported, pushed_at, tag_update
from dualreg.migrate.findings import Broken
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry
from dualreg.migrate.presence import Presence
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import ManifestSource
from dualreg.migrate.stopping import Stop
from dualreg.migrate.together import FILES, Steps, Together
from dualreg.migrate.transfer import LARGE, LinkMode, read_blob, stage_blob
from dualreg.migrate.v2.documents import read_entry, read_manifest
from dualreg.registry import Registry
from dualreg.registry.imports import NewManifest, NotPlain

_Known = Mapping[Digest, tuple[BlobRow, bool]]


@dataclass
class ManifestsTogether:
    """Imports new tags of manifests."""

    registry: Registry
    source: ManifestSource
    journal: Journal
    link: LinkMode
    stop: Stop
    locks: KeyedLocks
    presence: Presence
    _steps: Steps[Together] = field(init=False)

    def __post_init__(self) -> None:
        in_place = self.source.is_store(self.registry.blobs.keeps)
        self._steps = Steps(self.registry, self.journal, self.locks, Together, self._stage, in_place=in_place)

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        """Import what is new of *entries*, as ``Importer.import_new``."""
        return self._steps.run(entries)

    def _stage(self, step: Together, entries: Sequence[Entry]) -> int:
        """Stage what is new of the first of *entries*; return how many were looked at."""
        found, tried = self._found(step, entries)
        known = self._known(found)
        for entry, manifests in found.items():
            if step.is_full:
                return entries.index(entry)
            with suppress(NotPlain, Broken, RegistryError):
                self._add(step, entry, manifests, known)
        return tried

    def _found(self, step: Together, entries: Sequence[Entry]) -> tuple[dict[Entry, list[Manifest]], int]:
        """Read what the first of *entries* need, until it fills a step; return it, and how many were read."""
        found, tried = dict[Entry, list[Manifest]](), 0
        named = set[tuple[str, Digest]]()
        while tried < len(entries) and 2 * len(named) + len(found) <= FILES:
            self.stop.check()
            entry = entries[tried]
            tried += 1
            with suppress(NotPlain, Broken, RegistryError):
                found[entry] = [*self._read(step, entry, Digest.parse(entry.image))]
                name = entry.to_repository
                named.update((name, each.digest) for each in found[entry])
                named.update((name, blob) for each in found[entry] for blob in _blobs(each))
        return found, tried

    def _read(self, step: Together, entry: Entry, digest: Digest) -> Iterator[Manifest]:
        """Yield the manifests that an entry needs and that are not recorded, children first.

        Raises:
            NotPlain: it is schema 1, was made of V1 images, or lists blobs or images that are left out.
        """
        if (RepositoryName.parse(entry.to_repository), digest) in step.before.manifests:
            return
        manifest = read_manifest(self.source, entry.repository, digest)
        if manifest.contents.named is not None or self.source.v1_chain(entry.repository, digest):
            raise NotPlain("V1 clients pushed it, or clients of schema 1")
        if self.registry.manifests.rules.chosen(manifest.entries) != manifest.entries:
            raise NotPlain("some of what it lists is left out")
        for child in manifest.entries:
            listed = read_entry(self.source, entry.repository, child.descriptor)
            if listed is None:
                raise NotPlain("it lists a blob")
            yield from self._read(step, entry, listed.digest)
        yield manifest

    def _known(self, found: Mapping[Entry, list[Manifest]]) -> Mapping[str, _Known]:
        """Return what the registry knows of the blobs that are needed, by repository."""
        needed = dict[str, dict[Digest, None]]()
        for entry, manifests in found.items():
            own = needed.setdefault(entry.to_repository, {})
            own.update((digest, None) for each in manifests for digest in _blobs(each))
        blobs = self.registry.blobs
        return {name: blobs.known(RepositoryName(name), own) if own else {} for name, own in needed.items()}

    def _add(
        self, step: Together, entry: Entry, manifests: Sequence[Manifest], known: Mapping[str, _Known]
    ) -> None:
        repository, digest = RepositoryName.parse(entry.to_repository), Digest.parse(entry.image)
        tag, read = Tag.parse(entry.to_tag), step.read
        _require_small(manifests, known[entry.to_repository])
        added = step.of(repository)
        for manifest in manifests:
            if manifest.digest in added.manifests:
                continue
            for blob in _blobs(manifest):
                if blob not in added.blobs:
                    self._add_blob(step, entry, blob, known[entry.to_repository])
            self._add_document(step, repository, manifest)
            if manifest.digest != digest:
                line = {"repository": repository, "digest": str(manifest.digest), "made": True}
                step.lines["manifest"].append(line)
            at = self.source.pushed_at(entry.repository, manifest.digest) or step.at
            added.manifests[manifest.digest] = NewManifest(manifest, at)
        origin, agent = self.source.pusher(entry.repository, entry.tag)
        added.tags.append(FoundTag(tag, digest, pushed_at(entry) or step.at, origin, agent or None))
        made = any(manifest.digest == digest for manifest in manifests)
        step.lines["pointing"].append(tag_update(entry, None, made=made, manifest=digest))
        step.entries[entry] = Imported(digest, step.read - read)

    def _add_document(self, step: Together, repository: RepositoryName, manifest: Manifest) -> None:
        added = step.of(repository)
        added.blobs[manifest.digest] = len(manifest.payload)
        if not self._steps.in_place:
            step.files.add_document(manifest.digest, manifest.payload)
        if any(child.descriptor.digest == empty_layer().digest for child in manifest.children):
            added.blobs[empty_layer().digest] = len(EMPTY_LAYER)
            step.files.add_document(empty_layer().digest, EMPTY_LAYER)

    def _add_blob(self, step: Together, entry: Entry, digest: Digest, known: _Known) -> None:
        """Add a blob to what is new, unless the repository has it.

        Raises:
            NotPlain: it is large, or another thread is reading it.
            Broken: the source lacks it, or it has another digest.
        """
        blob, is_linked = known.get(digest, (None, False))
        if blob is None or not self.presence.blobs([blob]):
            blob, is_linked = self._bring(step, entry, digest), False
        if not is_linked:
            added = step.of(RepositoryName(entry.to_repository))
            added.blobs[digest] = blob.size
            step.lines["blob"].append(
                {"repository": added.repository, "digest": str(digest), "size": blob.size}
            )

    def _bring(self, step: Together, entry: Entry, digest: Digest) -> BlobRow:
        """Return a blob of the source: read once in a step, and staged unless it is in its place."""
        if staged := step.staged(digest):
            return staged
        found = self.source.blob(entry.repository, digest)
        if self.presence.is_noted(BlobRow(digest, found.size)):
            return BlobRow(digest, found.size)
        step.require_small(found.size)
        step.hold(digest)
        if found.path and self.registry.blobs.keeps(Path(found.path), digest):
            blob = read_blob(found, digest, str(digest))
            self.presence.note(blob)
        else:
            file = step.files.file()
            blob = stage_blob(file, found, digest, self.link, self.stop.check_room, where=str(digest))
            step.files.add_blob(digest, file)
        return blob


def _require_small(manifests: Sequence[Manifest], known: _Known) -> None:
    """Check that no blob that must be read is stated to be large, before any is read.

    Raises:
        NotPlain: one is.
    """
    named = (child.descriptor for manifest in manifests for child in manifest.required)
    if any((each.size or 0) > LARGE and each.digest not in known for each in named):
        raise NotPlain("it is large")


def _blobs(manifest: Manifest) -> Iterator[Digest]:
    """Yield the blobs that a repository needs for a manifest, but for manifests and the empty layer."""
    for child in manifest.required:
        if child.role is not Role.MANIFEST and child.descriptor.digest != empty_layer().digest:
            yield child.descriptor.digest
