"""Manifest: a document that names content, kept exactly as it was received."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dualreg.errors import ManifestInvalid
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.documents import parse_object
from dualreg.image.formats import FORMATS, Child, Contents, Role
from dualreg.image.jws import verified_payload

#: Content types that tell nothing about a manifest.
_UNTYPED = frozenset({"", "application/json", media_types.OCTET_STREAM})
#: What can be sent back as a header.
_MEDIA_TYPE = re.compile(r"[!-~]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of any format: nobody asks which; they ask for ``children``.

    Attributes:
        payload: The bytes as pushed; never re-serialised. Of schema 1, what the signatures were made over.
        digest: Of the payload.
        signed: The bytes as pushed, signatures and all; None but for schema 1.
    """

    media_type: str
    payload: bytes
    digest: Digest
    contents: Contents
    signed: bytes | None = None

    @property
    def children(self) -> tuple[Child, ...]:
        """Everything the document names, in its order; layers base first."""
        return self.contents.children

    @property
    def subject(self) -> Descriptor | None:
        """The manifest that this one is about, if any."""
        return self.contents.subject

    @property
    def artifact_type(self) -> str:
        """What kind of artifact this is; empty if the document does not say."""
        return self.contents.artifact_type

    @property
    def annotations(self) -> Mapping[str, str]:
        """The document's own annotations."""
        return self.contents.annotations

    @property
    def required(self) -> tuple[Child, ...]:
        """The children that the repository itself must hold.

        These are all but the layers that stay with their vendor.
        """
        return tuple(
            child for child in self.children if media_types.is_distributable(child.descriptor.media_type)
        )

    def described(self, role: Role) -> tuple[Descriptor, ...]:
        """Return the descriptors of the children of one role."""
        return tuple(child.descriptor for child in self.children if child.role is role)


def parse(media_type: str, payload: bytes, *, algorithm: str = CANONICAL) -> Manifest:
    """Read *payload* as the document that *media_type* promises.

    An empty or merely syntactical media type is replaced by what the document says of itself. Unknown media
    types are accepted as opaque JSON objects.

    Raises:
        ManifestInvalid: not a JSON object, not of that type, or saying another ``mediaType`` of itself.
        ManifestUnverified: schema 1 whose signatures are missing or wrong.

    Source: OCI distribution-spec v1.1, "Pushing Manifests"; CVE-2021-41190 for the strictness.
    """
    signed = None
    if _is_schema1(media_type, payload):
        media_type, signed, payload = media_types.SCHEMA1_SIGNED, payload, verified_payload(payload)
    try:
        document = parse_object(payload)
    except ValueError as error:
        raise ManifestInvalid(reason=str(error)[:200]) from error
    stated = document.get("mediaType")
    if media_type in _UNTYPED:
        media_type = stated if isinstance(stated, str) else _guess(document)
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        raise ManifestInvalid(reason="not a media type", media_type=media_type[:200])
    if stated is not None and stated != media_type:
        raise ManifestInvalid(reason="mediaType differs from Content-Type", media_type=media_type)
    if signed is None and (document.get("schemaVersion") == 1 or "signatures" in document):
        raise ManifestInvalid(reason="schema 1 under another media type", media_type=media_type)
    reader = FORMATS.get(media_type)
    contents = Contents() if reader is None else reader(document)
    return Manifest(media_type, payload, Digest.of(payload, algorithm), contents, signed)


def stored_contents(media_type: str, payload: bytes) -> Contents:
    """Return what a manifest says that was taken in once, by the bytes that its digest is of."""
    reader = FORMATS.get(media_type)
    return Contents() if reader is None else reader(parse_object(payload))


def _is_schema1(media_type: str, payload: bytes) -> bool:
    """Tell whether *payload* is, or has to be, signed schema 1; Docker 1.6 to 1.9 send it without a type.

    It is looked at leniently: what counts is what the signatures were made over.
    """
    if media_type not in _UNTYPED:
        return media_type in media_types.SCHEMA1_TYPES
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("schemaVersion") == 1 and "mediaType" not in document


def _guess(document: dict[str, Any]) -> str:
    """Return the type of a document that came without one."""
    if "manifests" in document:
        return media_types.OCI_INDEX
    if "config" in document:
        return media_types.OCI_MANIFEST
    raise ManifestInvalid(reason="neither Content-Type nor the document says what it is")
