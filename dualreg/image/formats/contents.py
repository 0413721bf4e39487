"""Contents: the common model of all manifest formats."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dualreg.errors import ManifestInvalid
from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest


class Role(StrEnum):
    """What a child is to its manifest."""

    CONFIG = "config"
    LAYER = "layer"
    #: An entry of an index; in build caches, a blob.
    MANIFEST = "manifest"
    #: The manifest itself with its signatures, as received (schema 1 only).
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Child:
    """Content that a manifest names, and its role."""

    role: Role
    descriptor: Descriptor

    @property
    def key(self) -> tuple[Role, Digest]:
        """What tells it from the other children of its manifest."""
        return self.role, self.descriptor.digest


@dataclass(frozen=True, slots=True)
class Contents:
    """What a manifest of any format contains.

    Attributes:
        children: In the order of the document; layers base first.
        subject: The manifest that this one refers to, if any.
        artifact_type: The type by which referrers are filtered; empty if the document gives none.
        annotations: The annotations of the document itself.
        named: The repository and tag that the document gives as its own (schema 1); None if it gives none.
    """

    children: tuple[Child, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    named: tuple[str, str] | None = None


def with_children(
    document: dict[str, Any], children: Iterable[Child], *, artifact_type: str = ""
) -> Contents:
    """Return the contents of a document that has *children*; all formats but schema 1 share the rest.

    Args:
        artifact_type: What is meant if the document gives none.

    Raises:
        ManifestInvalid: the subject, the artifact type or the annotations are invalid.
    """
    return Contents(
        tuple(children), subject_of(document), artifact_type_of(document) or artifact_type,
        annotations_of(document),
    )  # fmt: skip


def member(document: dict[str, Any], key: str) -> object:
    """Return the member *key*; None if it is null or absent.

    Raises:
        ManifestInvalid: it is there in another case, which programs in Go read all the same.
    """
    if key not in document and any(other.casefold() == key.casefold() for other in document):
        raise ManifestInvalid(reason=f"{key} is spelt in another case")
    return document.get(key)


def descriptors(document: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    """Return the descriptors listed under *key*; none if it is null or absent, as programs in Go write it.

    Raises:
        ManifestInvalid: the value is not a list of descriptors.

    Source: OCI image-spec issue 1025.
    """
    entries = member(document, key)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ManifestInvalid(reason=f"{key} is not a list")
    return tuple(Descriptor.from_json(entry) for entry in entries)


def subject_of(document: dict[str, Any]) -> Descriptor | None:
    """Return the ``subject`` of the document, if it has one.

    Source: OCI image-spec v1.1, manifest.md and image-index.md, ``subject``.
    """
    subject = member(document, "subject")
    return None if subject is None else Descriptor.from_json(subject)


def artifact_type_of(document: dict[str, Any]) -> str:
    """Return the ``artifactType`` of the document, empty if it has none.

    Raises:
        ManifestInvalid: it is not a string.
    """
    artifact_type = member(document, "artifactType") or ""
    if not isinstance(artifact_type, str) or "\0" in artifact_type:
        raise ManifestInvalid(reason="artifactType is not a string")
    return artifact_type


def annotations_of(document: dict[str, Any]) -> dict[str, str]:
    """Return the ``annotations`` of the document, empty if it has none; a member that is null is empty.

    Raises:
        ManifestInvalid: they do not map strings to strings.

    Source: OCI image-spec v1.1, annotations.md, "Rules".
    """
    annotations = member(document, "annotations") or {}
    if not isinstance(annotations, dict):
        raise ManifestInvalid(reason="annotations do not map strings to strings")
    read = {name: "" if text is None else text for name, text in annotations.items()}
    if not all(isinstance(text, str) for text in read.values()):
        raise ManifestInvalid(reason="annotations do not map strings to strings")
    return read


def refuse(document: dict[str, Any], *keys: str) -> None:
    """Raise ManifestInvalid if *document* has any of *keys*: it could be read as another format.

    Source: CVE-2021-41190, "type confusion".
    """
    found = sorted(key for key in document if key.casefold() in keys)
    if found:
        raise ManifestInvalid(reason=f"unexpected {', '.join(found)}")
