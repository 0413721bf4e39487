"""The trees that can stay behind a running registry."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from dualreg.image.digest import Digest
from dualreg.image.manifest import Manifest
from dualreg.migrate.base import Importer
from dualreg.migrate.findings import Broken
from dualreg.migrate.journal import Journal
from dualreg.migrate.layer_facts import KnownLayers, LayerFacts
from dualreg.migrate.single_flight import KeyedLocks
from dualreg.migrate.sources.base import SourceImage, SourceTag, V1Source
from dualreg.migrate.sources.registry_tree import RegistryTree
from dualreg.migrate.sources.v1_tree import V1Tree
from dualreg.migrate.stopping import Stop
from dualreg.migrate.v1.importer import V1Importer
from dualreg.migrate.v1.survey import V1Survey
from dualreg.migrate.v2.documents import read_manifest
from dualreg.migrate.v2.importer import V2Importer
from dualreg.registry import Registry
from dualreg.storage.base import Keeps


class OnDemandSource(Protocol):
    """A source that imports one tag, manifest or image at a time, without a survey."""

    def is_store(self, keeps: Keeps) -> bool:
        """Return whether the source is the store that *keeps* is of."""

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        known: KnownLayers,
        locks: KeyedLocks,
        stop: Stop,
    ) -> Importer:
        """Return the importer of the source.

        Args:
            known: The facts of V1 layers that were read already, by id; more are added.
            locks: Shared by all importers that may run at the same time.
            stop: Says whether to go on.
        """


class OnDemandTree(OnDemandSource, Protocol):
    """A source that answers for one repository, tag or image at a time.

    A tree of V1 images has no manifests, and a tree of manifests no V1 images: it says so, and does not fail.
    Each method may raise OSError.
    """

    @property
    def root(self) -> Path:
        """The folder of the tree."""

    def tag(self, repository: str, tag: str) -> SourceTag | None:
        """Return a tag, which may be lost; None if there is none."""

    def names_of(self, repository: str) -> Iterator[str]:
        """Yield the names of possible tags of a repository, unread; none if there is no such repository."""

    def folders_of(self, repository: str) -> Sequence[Path]:
        """Return the folders whose modification time changes when ``names_of`` does."""

    def has_image(self, id_: str) -> bool:
        """Return whether there may be a V1 image with this id."""

    def parent(self, id_: str) -> str | None:
        """Return the parent of a V1 image; None if it has none.

        Raises:
            Broken: there is no such image, or it is damaged.
        """

    def revision(self, repository: str, digest: Digest) -> SourceTag | None:
        """Return a manifest that is linked in the repository, as an untagged image; None if it is not."""

    def revisions_of(self, repository: str) -> Iterator[Digest]:
        """Yield the manifests of a repository; some may have been deleted."""

    def revision_folders_of(self, repository: str) -> Sequence[Path]:
        """Return the folders whose modification time changes when ``revisions_of`` does."""

    def has_blob(self, digest: Digest) -> bool:
        """Return whether the tree has a blob or manifest, in any repository."""

    def read_manifest(self, repository: str, digest: Digest) -> Manifest | None:
        """Return a manifest; None if it is missing or damaged."""


class OnDemandV1(V1Source):
    """An OnDemandSource of V1 images."""

    def is_store(self, keeps: Keeps) -> bool:
        del keeps
        return False

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        known: KnownLayers,
        locks: KeyedLocks,
        stop: Stop,
    ) -> Importer:
        chain = partial(self._chain, registry, known)
        return V1Importer(registry, chain, journal, known=known, locks=locks, stop=stop, agent=self.agent)

    def _chain(self, registry: Registry, known: KnownLayers, id_: str) -> list[SourceImage]:
        """Return an image and its ancestors, base first; note what is known of layers that are stored."""
        survey = V1Survey(self)
        survey.load(id_)
        chain = survey.chain(id_)
        for image in chain:
            if image.id not in known and (facts := _stored_facts(registry, image)):
                known[image.id] = facts
        return chain


class OnDemandV1Tree(V1Tree, OnDemandV1):
    """An OnDemandTree of V1 images."""

    def parent(self, id_: str) -> str | None:
        return self.image(id_).parent

    def revision(self, repository: str, digest: Digest) -> SourceTag | None:
        del repository, digest
        return None

    def revisions_of(self, repository: str) -> Iterator[Digest]:
        del repository
        return iter(())

    def revision_folders_of(self, repository: str) -> Sequence[Path]:
        del repository
        return ()

    def has_blob(self, digest: Digest) -> bool:
        del digest
        return False

    def read_manifest(self, repository: str, digest: Digest) -> Manifest | None:
        del repository, digest
        return None


class OnDemandRegistryTree(RegistryTree):
    """An OnDemandTree of manifests."""

    def has_image(self, id_: str) -> bool:
        del id_
        return False

    def parent(self, id_: str) -> str | None:
        del id_
        return None

    def read_manifest(self, repository: str, digest: Digest) -> Manifest | None:
        try:
            return read_manifest(self, repository, digest)
        except Broken:
            return None

    def importer(
        self,
        registry: Registry,
        journal: Journal,
        known: KnownLayers,
        locks: KeyedLocks,
        stop: Stop,
    ) -> Importer:
        return V2Importer(registry, self, journal, locks=locks, stop=stop, known=known)


def _stored_facts(registry: Registry, image: SourceImage) -> LayerFacts | None:
    """Return the facts of a layer that this registry has, if its checksum proves that it is the source's."""
    row = registry.v1_images.peek_anywhere(image.id)
    if row is None or not row.complete or str(row.checksum) not in image.checksums:
        return None
    size, changed = image.layer.size, image.layer.changed
    facts = (str(row.json), str(row.layer), str(row.diff_id), str(row.checksum))
    return LayerFacts(size, changed, *facts, verified=True) if row.layer_size == size else None
