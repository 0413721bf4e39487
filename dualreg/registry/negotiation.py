"""Negotiation: which representation of a tagged image a client gets.

By digest, every client gets the bytes of that digest. By tag, it gets the form of the image that
``registry.editions`` says it can read: for clients that read only schema 1, a schema 1 edition.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dualreg.catalog.rows import BlobRow, ManifestRow, Origin
from dualreg.errors import BlobDamaged, BlobMissing, LayersPending, ManifestUnknown, TagUnknown
from dualreg.image import media_types
from dualreg.image.convert import manifest_from_chain
from dualreg.image.digest import Digest
from dualreg.image.editions import Edition
from dualreg.image.formats import Role
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64, Platform
from dualreg.image.schema1 import outline
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.bridge import Bridge
from dualreg.registry.editions import Editions, Form
from dualreg.registry.loaded import load_children
from dualreg.registry.manifests import Manifests
from dualreg.registry.platform_editions import PlatformEditions
from dualreg.registry.provenance import Provenance
from dualreg.registry.schema1_editions import Generated, Schema1Editions
from dualreg.registry.signatures import Ruling

_log = logging.getLogger(__name__)

#: The forms that are editions.
_EDITIONS = frozenset({Form.GZIP, Form.SCHEMA2, Form.OCI})
#: Why a manifest whose bytes the store does not have is unknown.
LOST = "its stored bytes are lost or damaged; push it again"


@dataclass(frozen=True, slots=True)
class Representation:
    """A manifest in the form that one client gets.

    Attributes:
        digest: The value of ``Docker-Content-Digest``; for schema 1, of the payload without signatures.
        size: Bytes of what ``read`` returns.
        row: The manifest that it is; None: it was generated, and is not stored.
        blob: The bytes that ``read`` returns, in the store: for schema 1, the signed form.
        ruling: What policies say of its pull.
    """

    media_type: str
    digest: Digest
    size: int
    read: Callable[[], bytes]
    row: ManifestRow | None = None
    blob: BlobRow | None = None
    ruling: Ruling = field(default_factory=Ruling)


class Outline(NamedTuple):
    """What is known of a manifest whose layers are being transcoded: its media type, and its first bytes."""

    media_type: str
    known: bytes


@dataclass(frozen=True, slots=True)
class Negotiation:
    """Chooses the manifest that a client gets, and has it made."""

    manifests: Manifests
    bridge: Bridge
    editions: Editions
    platforms: PlatformEditions
    schema1: Schema1Editions

    def find(
        self,
        repository: RepositoryName,
        reference: Tag | Digest,
        accept: Accept,
        *,
        is_pull: bool = True,
        may_sign: bool = False,
    ) -> Representation:
        """Return the representation of *reference* that suits *accept*.

        By digest, that is always the manifest of that digest; by tag, what ``editions.suitable`` says.

        Args:
            is_pull: Whether the client gets the manifest itself, as no program does that only looks.
            may_sign: Whether it may push a signature of it. A program that does so reads it first.

        Raises:
            ManifestUnknown.
            Unsigned: a policy refuses it, whatever its form.
            ImageUnreadable: there is no form of the image that the client can read.
            LayersPending: there will be one; ``find_soon`` returns what is known of it.

        Source: OCI distribution-spec v1.1, "Pulling manifests"; distribution 2.3 to 2.8 for old clients.
        """
        row = self.manifests.find(repository, reference)
        signatures = self.manifests.signatures
        ruling = Ruling(applies=signatures.covers_pulls(repository))
        if ruling.applies and is_pull and not (may_sign and accept.agent.signs):
            ruling = signatures.check_pull(repository, row)
        return replace(self._represent(repository, reference, row, accept), ruling=ruling)

    def _represent(
        self, repository: RepositoryName, reference: Tag | Digest, row: ManifestRow, accept: Accept
    ) -> Representation:
        if isinstance(reference, Digest):
            return self._stored(repository, row)
        form, row = self._choose(repository, row, accept)
        if form is Form.SCHEMA1:
            return self._as_schema1(repository, reference, row, accept.agent.platform)
        if form is not Form.AS_STORED:
            row = self.edition(repository, reference, row, Edition(form), agent=accept.agent)
        return self._stored(repository, row)

    def find_soon(
        self,
        repository: RepositoryName,
        reference: Tag | Digest,
        accept: Accept,
        *,
        is_pull: bool = True,
        may_sign: bool = False,
    ) -> Representation | Outline:
        """Return the representation as ``find``, or an outline of it while layers are being transcoded."""
        with suppress(LayersPending):
            return self.find(repository, reference, accept, is_pull=is_pull, may_sign=may_sign)
        form, row = self._choose(repository, self.manifests.find(repository, reference), accept)
        if form is Form.SCHEMA1 and isinstance(reference, Tag):
            return Outline(media_types.SCHEMA1_SIGNED, outline(repository, reference))
        if form in _EDITIONS and row.media_type not in media_types.SCHEMA1_TYPES:
            return Outline(*self.editions.outline(row, Edition(form)))
        # the tag was moved meanwhile
        return self.find(repository, reference, accept, is_pull=is_pull, may_sign=may_sign)

    def _choose(
        self, repository: RepositoryName, row: ManifestRow, accept: Accept
    ) -> tuple[Form, ManifestRow]:
        """Return the form of a tagged manifest, or of an image that it lists, that a client gets."""
        form = self.editions.form(repository, row, accept)
        if form is Form.PLATFORM:
            row = self.editions.image_for(repository, row, accept.agent.platform)
            form = self.editions.form(repository, row, accept)
        return form, row

    def edition(
        self,
        repository: RepositoryName,
        tag: Tag,
        row: ManifestRow,
        edition: Edition,
        *,
        whole: bool = False,
        agent: Agent | None = None,
    ) -> ManifestRow:
        """Return an edition of a tagged manifest; schema 1 that cannot be converted, as it is.

        Args:
            whole: As for ``Editions.make``.
            agent: The client that gets it; it may be that for its platform only, as ``PlatformEditions`` has.

        Raises:
            ImageUnreadable: there is none.
            LayersPending: there will be one.
        """
        if row.media_type in media_types.SCHEMA1_TYPES:
            return self._convert_schema1(repository, tag, row, edition) or row
        if row.media_type in media_types.INDEXES and agent and agent.names_platform:
            return self.platforms.make(repository, row, edition, agent.platform)
        return self.editions.make(repository, row, edition, whole=whole)

    def successor(self, repository: RepositoryName, digest: Digest, accept: Accept) -> Digest | None:
        """Return what to pull instead of schema 1, of a type that a client names; None: nothing yet.

        That is what it was made of, or what it was converted to when such a client first pulled a tag of it.
        """
        types = {media_types.DOCKER_MANIFEST: Edition.SCHEMA2, media_types.OCI_MANIFEST: Edition.OCI}
        named = [str(edition) for media_type, edition in types.items() if media_type in accept.types]
        if not named:
            return None
        row = self.manifests.find(repository, digest)
        with self.manifests.state.catalog.read() as tx:
            sources = tx.manifests.find_all(repository, tx.views.sources(row.repository_id, digest))
            found = (tx.views.find(row.repository_id, digest, kind=kind) for kind in named)
            readable = [each.digest for each in sources.values() if each.media_type in accept.types]
            return next((Digest.parse(each) for each in (*map(str, readable), *found) if each), None)

    def resolve(self, repository: RepositoryName, tag: Tag) -> ImageId:
        """Return the V1 image that a tag is seen as.

        Raises:
            TagUnknown: as ``Bridge.resolve``.
            ImageUnreadable: V1 clients do not see it, and the reason is known.
            Unsigned: a policy refuses it.
        """
        try:
            image = self.bridge.resolve(repository, tag)
        except TagUnknown:
            self.explain(repository, tag)
            raise
        self.manifests.signatures.check_image(repository, image)
        return image

    def explain(self, repository: RepositoryName, tag: Tag | None = None) -> None:
        """Raise ImageUnreadable if the reason is known why V1 clients cannot see a tag, or any tag."""
        tags = [tag] if tag else self.bridge.unseen(repository)[:1]
        shown = self.bridge.visibility.shown(repository, Origin.V1)
        for row in (self.manifests.peek(repository, each) for each in tags):
            if row and row.origin in shown:
                self.editions.check_for_v1(repository, row, LINUX_AMD64)

    def sign(self, payload: bytes) -> bytes:
        """Return the schema 1 *payload* signed with this registry's key."""
        return self.schema1.sign(payload)

    def signed(self, repository: RepositoryName, row: ManifestRow) -> bytes | None:
        """Return a schema 1 manifest with its signatures, as pushed; None of other manifests.

        If they are lost, it is signed with this registry's key, and stored so: its digest does not depend on
        signatures.
        """
        blob, body = self._signed(repository, row)
        return body if blob else None

    def _signed(self, repository: RepositoryName, row: ManifestRow) -> tuple[BlobRow | None, bytes]:
        """Return a schema 1 manifest as ``signed``, with the blob that it is; None and nothing of others."""
        found = self.manifests.signed(row)
        if found is None:
            return None, b""
        try:
            return found, self.manifests.documents.read(found.digest)
        except (BlobMissing, BlobDamaged):
            body = self.sign(self.manifests.payload(row))
            again = Provenance(lost=True)
            self.manifests.put(repository, row.digest, row.media_type, body, provenance=again)
            _log.warning(
                "%s: the signatures of %s were lost or damaged; it was signed again", repository, row.digest
            )
            return BlobRow(Digest.of(body), len(body)), body

    def _stored(self, repository: RepositoryName, row: ManifestRow) -> Representation:
        """Return the manifest as it is stored."""
        if row.media_type in media_types.SCHEMA1_TYPES:
            blob, body = self._signed(repository, row)
            if blob:
                return Representation(row.media_type, row.digest, len(body), lambda: body, row, blob)
        self.require(row)
        blob = BlobRow(row.digest, row.size)
        return Representation(
            row.media_type, row.digest, row.size, lambda: self.manifests.payload(row), row, blob
        )

    def require(self, row: ManifestRow) -> None:
        """Raise ManifestUnknown unless the store has all bytes of a manifest."""
        if not self.manifests.integrity.holds(BlobRow(row.digest, row.size)):
            raise ManifestUnknown(reference=str(row.digest), reason=LOST)

    def _as_schema1(
        self, repository: RepositoryName, tag: Tag, row: ManifestRow, platform: Platform
    ) -> Representation:
        image = self.editions.image_for(repository, row, platform)
        made = self.schema1.make(repository, tag, image)
        if made is None:
            self.editions.check_for_v1(repository, image, platform)
            reason = "this image cannot be expressed as schema 1"
            raise ManifestUnknown(reference=tag, reason=reason)  # after which Docker looks for it on V1
        if isinstance(made, Generated):
            body = made.body
            return Representation(media_types.SCHEMA1_SIGNED, made.digest, len(body), lambda: body)
        return self._stored(repository, made)

    def _convert_schema1(
        self, repository: RepositoryName, tag: Tag, row: ManifestRow, edition: Edition
    ) -> ManifestRow | None:
        """Return a schema 1 image as schema 2 or OCI, converted and stored on first use; None: impossible."""
        kind, docker = str(edition), edition is Edition.SCHEMA2
        media_type = media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST
        catalog = self.manifests.state.catalog
        with catalog.read() as tx:
            known = tx.views.find(row.repository_id, row.digest, kind=kind)
            found = tx.manifests.find(repository, Digest.parse(known)) if known else None
            excluded = tx.views.excluded(row.repository_id, row.digest, kind=kind)
        if found or excluded:
            return found
        load_children(self.manifests.state, repository, row.digest, Role.LAYER)
        chain = self.bridge.schema1_chain(repository, tag, row)
        if chain is None:
            self.editions.exclude(repository, row, kind)
            return None
        converted = manifest_from_chain(chain, media_type=media_type)
        self.bridge.uploads.ingest(repository, [converted.config], counts=False)
        return self.editions.store(repository, row, kind, media_type, converted.payload)
