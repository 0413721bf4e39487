"""Manifest: a document that names content; its bytes are kept exactly as they were received."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dualreg.errors import ManifestInvalid, shown
from dualreg.image import media_types
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.documents import misspelt, parse_object
from dualreg.image.formats import FORMATS, Child, Contents, Role
from dualreg.image.jws import verified_payload

#: Content types that do not identify a format of manifest.
_UNTYPED = frozenset({"", "application/json", media_types.OCTET_STREAM})
#: Media types of manifests: those that no browser shows as a page.  Source: RFC 6838, section 4.2.
_MEDIA_TYPE = re.compile(
    r"application/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}(?:;[ -~]{1,100})?", re.ASCII | re.IGNORECASE
)
#: Members that hold descriptors or the like, and the members of these and of their platforms.
_DESCRIBING = ("config", "layers", "manifests", "blobs", "subject", "fsLayers", "history")
_MEMBERS = (
    *("mediaType", "digest", "size", "platform", "data", "urls", "artifactType", "annotations"),
    *("blobSum", "v1Compatibility"),
)
_PLATFORM = ("os", "architecture", "variant", "os.version", "os.features")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest of any format. Callers need not know the format; they use ``children``.

    Attributes:
        payload: The bytes as pushed, never re-serialised. For schema 1, the bytes that are signed.
        digest: The digest of the payload.
        signed: For schema 1, the bytes as pushed, including the signatures; else None.
        self_described: Whether the payload alone says which media type it has (``stored``).
        declared: The media type that the payload gives itself, if it gives one (``stored``).
    """

    media_type: str
    payload: bytes
    digest: Digest
    contents: Contents
    signed: bytes | None = None
    self_described: bool = True
    declared: str | None = None

    @property
    def children(self) -> tuple[Child, ...]:
        """Everything the manifest names, in the order of the document; layers base first."""
        return self.contents.children

    @property
    def subject(self) -> Descriptor | None:
        """The manifest that this one refers to as its subject, if any."""
        return self.contents.subject

    @property
    def artifact_type(self) -> str:
        """The type of artifact, by which referrers are filtered; empty if the document gives none."""
        return self.contents.artifact_type

    @property
    def annotations(self) -> Mapping[str, str]:
        """The annotations of the document itself, not of its descriptors."""
        return self.contents.annotations

    @property
    def required(self) -> tuple[Child, ...]:
        """The children that must be in the repository: all except non-distributable layers."""
        return tuple(
            child for child in self.children if media_types.is_distributable(child.descriptor.media_type)
        )

    @property
    def entries(self) -> tuple[Child, ...]:
        """The children that an index lists, each a manifest or a blob."""
        return tuple(child for child in self.children if child.role is Role.MANIFEST)

    @property
    def unsized(self) -> tuple[Digest, ...]:
        """The children whose sizes the manifest does not state, though its format has them."""
        if self.contents.named is not None:
            return ()  # schema 1
        return tuple(child.descriptor.digest for child in self.children if child.descriptor.size is None)

    def positions(self) -> dict[tuple[Role, Digest], int]:
        """Return the place of each child in the document, by its key; the first one, if it is named twice."""
        places: dict[tuple[Role, Digest], int] = {}
        for place, child in enumerate(self.children):
            places.setdefault(child.key, place)
        return places

    def resized(self, sizes: Mapping[Digest, int]) -> "Manifest":
        """Return the manifest as if it stated *sizes* for the content that they have."""
        children = tuple(
            replace(child, descriptor=replace(child.descriptor, size=sizes[child.descriptor.digest]))
            if child.descriptor.digest in sizes
            else child
            for child in self.children
        )
        return replace(self, contents=replace(self.contents, children=children))

    def described(self, role: Role) -> tuple[Descriptor, ...]:
        """Return the descriptors of the children with *role*, in the order of the document."""
        return tuple(child.descriptor for child in self.children if child.role is role)


def parse(media_type: str, payload: bytes, *, algorithm: str = CANONICAL) -> Manifest:
    """Return the manifest that *payload*, sent as *media_type*, encodes.

    An empty or generic media type (``application/json``) is replaced by that of the document. A document of
    an unknown media type may be any JSON object, and has no children.

    Raises:
        ManifestInvalid: *media_type* is not of ``application/``, or *payload* is not a JSON object, does not
            have the form that *media_type* requires, or gives another ``mediaType``.
        ManifestUnverified: *payload* is schema 1 whose signatures are missing or invalid.

    Source: OCI distribution-spec v1.1, "Pushing Manifests"; CVE-2021-41190 for the strictness.
    """
    signed = None
    if _is_schema1(media_type, payload):
        media_type, signed, payload = media_types.SCHEMA1_SIGNED, payload, verified_payload(payload)
    try:
        document = parse_object(payload)
    except ValueError as error:
        raise ManifestInvalid(reason=str(error)[:200]) from error
    _refuse_misspelt(document, ("mediaType", "schemaVersion"))
    declared = None if document.get("mediaType") == "" else document.get("mediaType")
    implied = _implied(document)
    if media_type in _UNTYPED:
        media_type = _require_type(implied)
    if _MEDIA_TYPE.fullmatch(media_type) is None:
        raise ManifestInvalid(reason="not a media type of application/", media_type=media_type[:200])
    if declared is not None and declared != media_type:
        raise ManifestInvalid(
            reason=f"mediaType in the document is {str(declared)[:200]}, but Content-Type is {media_type}"
        )
    if signed is None and (document.get("schemaVersion") == 1 or "signatures" in document):
        raise ManifestInvalid(reason="schema 1 manifest with another media type", media_type=media_type)
    contents = _contents(media_type, document)
    if media_type in FORMATS:
        _check_spelling(document)
    return Manifest(
        media_type, payload, Digest.of(payload, algorithm), contents, signed, media_type == implied
    )


def stored(media_type: str, payload: bytes, digest: Digest) -> Manifest:
    """Return a manifest that was stored before, whose signatures are not verified again.

    Args:
        media_type: As it was recorded; empty: as the document says.
        payload: The bytes that *digest* is of.

    Raises:
        ManifestInvalid: it has another digest, or is no manifest of that media type.
    """
    try:
        document = parse_object(payload)
        implied = _implied(document)
        found = media_type or implied
        if Digest.of(payload, digest.algorithm) != digest or found is None:
            raise ManifestInvalid(reason="digest differs" if found else "no media type")
        contents = _contents(found, document)
    except ValueError as error:
        raise ManifestInvalid(reason=str(error)[:200]) from error
    declared = _declared(document)
    described = found == implied or declared is not None
    return Manifest(found, payload, digest, contents, self_described=described, declared=declared)


def _check_spelling(document: Mapping[str, Any]) -> None:
    """Refuse descriptors with members in another case: programs in Go read these, and others do not.

    Raises:
        ManifestInvalid: there is one.

    Source: CVE-2021-41190, "type confusion".
    """
    lists = [document.get(key) for key in _DESCRIBING]
    entries = [entry for each in lists for entry in (each if isinstance(each, list) else [each])]
    described = [entry for entry in entries if isinstance(entry, dict)]
    platforms = [entry["platform"] for entry in described if isinstance(entry.get("platform"), dict)]
    for names, values in ((_MEMBERS, described), (_PLATFORM, platforms)):
        for value in values:
            _refuse_misspelt(value, names)


def _refuse_misspelt(document: Mapping[str, Any], names: Sequence[str]) -> None:
    wrong = misspelt(document, names)
    if wrong is not None:
        expected = next(name for name in names if name.casefold() == wrong.casefold())
        raise ManifestInvalid(reason=f"{shown(wrong[:50])} must be spelt {expected}")


def stored_contents(media_type: str, payload: bytes) -> Contents:
    """Return the contents of a manifest that was stored before; *payload* is not verified again."""
    return _contents(media_type, parse_object(payload) if media_type in FORMATS else {})


def _contents(media_type: str, document: dict[str, Any]) -> Contents:
    reader = FORMATS.get(media_type)
    return Contents() if reader is None else reader(document)


def _is_schema1(media_type: str, payload: bytes) -> bool:
    """Return whether *payload* must be signed schema 1, which Docker 1.6 to 1.9 send without a media type.

    The JSON is parsed leniently: only the signed payload matters, and that is parsed strictly later.
    """
    if media_type not in _UNTYPED:
        return media_type in media_types.SCHEMA1_TYPES
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("schemaVersion") == 1 and not document.get("mediaType")


def _require_type(implied: str | None) -> str:
    if implied is None:
        raise ManifestInvalid(reason="no media type in Content-Type or document")
    return implied


def _declared(document: dict[str, Any]) -> str | None:
    """Return the media type that a document gives itself; None if it gives none."""
    declared = document.get("mediaType")
    return declared if isinstance(declared, str) and declared else None


def _implied(document: dict[str, Any]) -> str | None:
    """Return the media type that a document gives itself, or that its form implies; None: neither."""
    if declared := _declared(document):
        return declared
    if document.get("schemaVersion") == 1:
        return media_types.SCHEMA1_SIGNED
    if "manifests" in document:
        return media_types.OCI_INDEX
    return media_types.OCI_MANIFEST if "config" in document else None
