"""Import of many new tags with their V1 images in one step: see ``migrate.together``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from dualreg.catalog.rebuilding import FoundTag
from dualreg.catalog.rows import Origin
from dualreg.errors import RegistryError
from dualreg.image.convert import Link, V1Layer, manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.inflater import Compression
from dualreg.image.layer import empty_diff_ids, looks_padded
from dualreg.image.manifest import parse
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import V1Image
from dualreg.migrate.base import Imported, pushed_at, tag_update
from dualreg.migrate.findings import Broken
from dualreg.migrate.layer_facts import LayerFacts
from dualreg.migrate.plan import Entry
from dualreg.migrate.sources.base import SourceImage
from dualreg.migrate.together import Steps, Together
from dualreg.migrate.v1.images import ImageImporter, imported_image
from dualreg.migrate.v1.layers import stage_layer
from dualreg.registry.bridge import CHAIN_JSON_LIMIT, recorded_agent
from dualreg.registry.imports import NewManifest, NotPlain
from dualreg.storage.bulk import BulkFile

#: Bytes at the start of a layer that tell its compression.
_HEAD = 6


@dataclass
class ImagesTogether:
    """Imports new tags of V1 images; each layer is read once.

    Attributes:
        images: Imports single images; what it knows of layers is shared.
        chain: Returns an image and its ancestors, base first; raises Broken.
        agent: Returns the User-Agent that pushed a tag of the source; empty if it is unknown.
    """

    images: ImageImporter
    chain: Callable[[str], list[SourceImage]]
    agent: Callable[[str, str], str]
    _compressions: dict[str, Compression] = field(default_factory=dict)
    _steps: "Steps[_Step]" = field(init=False)

    def __post_init__(self) -> None:
        own = self.images
        self._steps = Steps(own.registry, own.journal, own.locks, _Step, self._stage, self._note)

    def import_new(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Imported]]:
        """Import what is new of *entries*, as ``Importer.import_new``."""
        return self._steps.run(entries)

    def _note(self, step: "_Step") -> None:
        """Note the layers that were read and recorded."""
        self.images.known.update(step.facts)
        self._compressions |= step.compressions

    def _stage(self, step: "_Step", entries: Sequence[Entry]) -> int:
        """Stage what is new of the first of *entries*; return how many were looked at."""
        for number, entry in enumerate(entries):
            if step.is_full:
                return number
            self.images.stop.check()
            with suppress(NotPlain, Broken, RegistryError):
                self._add(step, entry)
        return len(entries)

    def _add(self, step: "_Step", entry: Entry) -> None:
        """Add an entry to what is new, with what its image is made of."""
        repository, tag, read = RepositoryName.parse(entry.to_repository), Tag.parse(entry.to_tag), step.read
        image, added, chain = ImageId.parse(entry.image), step.of(repository), self.chain(entry.image)
        self._require_absent(step, repository, chain)
        links = [self._link(step, repository, each) for each in chain]
        known = step.before.manifests.get((repository, image))
        known = known or next((each for each, new in added.manifests.items() if new.view == image), None)
        digest = known or self._make(step, repository, links)
        agent = recorded_agent(self.agent(entry.repository, entry.tag) or "") or None
        added.tags.append(FoundTag(tag, digest, pushed_at(entry) or step.at, Origin.V1, agent))
        step.lines["pointing"].append(tag_update(entry, None, made=known is None))
        step.entries[entry] = Imported(digest, step.read - read)

    def _require_absent(
        self, step: "_Step", repository: RepositoryName, chain: Sequence[SourceImage]
    ) -> None:
        """Check that a repository has none of the images of a chain but what was imported together.

        Raises:
            NotPlain: it does.
        """
        added = step.of(repository)
        others = [
            each.id
            for each in chain
            if each.id not in added.images and (repository, each.id) not in step.before.images
        ]
        if others and step.registry.imports.known_images(repository, others):
            raise NotPlain("the repository has some of its images")

    def _link(self, step: "_Step", repository: RepositoryName, source: SourceImage) -> Link:
        """Return an image with its layer; add it to what is new, unless it was imported.

        Raises:
            NotPlain, Broken: as ``_add_image``.
        """
        added = step.of(repository)
        if source.id not in added.images and (repository, source.id) not in step.before.images:
            self._add_image(step, repository, source)
        if new := added.images.get(source.id):
            image, layer, diff_id = new.document, new.layer, new.diff_id
        elif facts := self._imported_facts(source):
            image, layer = V1Image(source.id, source.parent, source.json()), facts.blob
            diff_id = Digest.parse(facts.diff_id)
        else:
            raise NotPlain("it has changed")
        compression = step.compressions.get(source.id) or self._compressions[source.id]
        return Link(image, V1Layer(layer.digest, layer.size, diff_id, compression))

    def _add_image(self, step: "_Step", repository: RepositoryName, source: SourceImage) -> None:
        """Add an image to what is new; its layer is read unless that was done for another repository.

        Raises:
            NotPlain: it is large, another thread is reading it, or clients of V2 could not read it.
            Broken: the source has a damaged one.
        """
        if source.recorded or (self.images.strict and source.marked):
            raise NotPlain("it needs more than its bytes")
        facts = step.facts.get(source.id) or self._imported_facts(source)
        if facts is None:
            step.require_small(source.layer.size)
            step.hold(source.id)
            facts = self._read(step, source)
        added, image, digest = step.of(repository), imported_image(source, facts), Digest.parse(facts.json)
        added.images[source.id] = image
        added.blobs |= {digest: len(image.document.json), image.layer.digest: image.layer.size}
        step.files.add_document(digest, image.document.json)
        step.lines["image"].append({"repository": repository, "id": source.id, **asdict(facts)})

    def _imported_facts(self, source: SourceImage) -> LayerFacts | None:
        """Return the facts of a layer that this has imported, if its file has not changed since."""
        facts = self.images.known_facts(source)
        return facts if facts and source.id in self._compressions else None

    def _read(self, step: "_Step", source: SourceImage) -> LayerFacts:
        """Stage and read a layer.

        Raises:
            NotPlain: clients of V2 could not read it, unless it is compressed anew.
        """
        file = step.files.file()
        facts = stage_layer(file, source, self.images.link, self.images.stop.check_room)
        digest, diff_id = Digest.parse(facts.layer), Digest.parse(facts.diff_id)
        step.compressions[source.id] = Compression.GZIP  # what an empty one is taken for
        if diff_id not in empty_diff_ids():
            step.compressions[source.id] = _readable_compression(file)
        step.files.add_blob(digest, file)
        step.facts[source.id] = facts
        return facts

    def _make(self, step: "_Step", repository: RepositoryName, links: Sequence[Link]) -> Digest:
        """Add the manifest of a chain to what is new; return its digest.

        Raises:
            NotPlain: it has no files, its JSONs are large, or there is the same manifest for another image.
        """
        image, added = links[-1].image.id, step.of(repository)
        if sum(len(link.image.json) for link in links) > CHAIN_JSON_LIMIT:
            raise NotPlain("its JSONs are large")
        if all(link.layer.diff_id in empty_diff_ids() for link in links):
            raise NotPlain("it has no files")
        made = manifest_from_chain(links)
        manifest, config = parse(made.media_type, made.payload), Digest.of(made.config)
        if manifest.digest in added.manifests:
            raise NotPlain("a duplicate has the same manifest")
        for digest, document in ((config, made.config), (manifest.digest, made.payload)):
            added.blobs[digest] = len(document)
            step.files.add_document(digest, document)
        added.manifests[manifest.digest] = NewManifest(manifest, step.at, image)
        return manifest.digest


@dataclass
class _Step(Together):
    """A step with what was found out about the layers that it has read, by image."""

    facts: dict[str, LayerFacts] = field(default_factory=dict)
    compressions: dict[str, Compression] = field(default_factory=dict)


def _readable_compression(file: BulkFile) -> Compression:
    """Return the compression of a layer as clients of V2 can read it.

    Raises:
        NotPlain: they cannot.
    """
    with file.open() as reader:
        compression = Compression.sniff(reader.read(_HEAD))
        if compression not in (Compression.GZIP, Compression.NONE) or looks_padded(reader):
            raise NotPlain("it has to be compressed anew")
    return compression
