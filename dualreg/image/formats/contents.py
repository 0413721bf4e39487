"""Contents: what every manifest format comes down to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dualreg.errors import ManifestInvalid
from dualreg.image.descriptor import Descriptor


class Role(StrEnum):
    """What a manifest uses a child for."""

    CONFIG = "config"
    LAYER = "layer"
    MANIFEST = "manifest"
    #: The same document with its signatures, as it was received. (Schema 1 only.)
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Child:
    """Content a manifest names, and what for."""

    role: Role
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class Contents:
    """What a manifest says, whatever its format.

    Attributes:
        children: In the document's order; layers base first.
        subject: The manifest this one is about, if any.
        artifact_type: As referrers are filtered by it; empty if the document gives none.
        annotations: As the document gives them.
        place: The repository and tag that the document says it is for, if it says so (schema 1).
    """

    children: tuple[Child, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    place: tuple[str, str] | None = None


def descriptors(document: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    """Return the descriptors listed under *key*.

    Raises:
        ManifestInvalid: no list there, or an entry that is no descriptor.
    """
    entries = document.get(key)
    if not isinstance(entries, list):
        raise ManifestInvalid(reason=f"{key} is not a list")
    return tuple(Descriptor.from_json(entry) for entry in entries)


def subject_of(document: dict[str, Any]) -> Descriptor | None:
    """Return the document's ``subject``, if it has one.

    Source: OCI image-spec v1.1, manifest.md and image-index.md, ``subject``.
    """
    subject = document.get("subject")
    return None if subject is None else Descriptor.from_json(subject)


def artifact_type_of(document: dict[str, Any]) -> str:
    """Return the document's own ``artifactType``, empty if it has none.

    Raises:
        ManifestInvalid: it is not text.
    """
    artifact_type = document.get("artifactType") or ""
    if not isinstance(artifact_type, str) or "\0" in artifact_type:
        raise ManifestInvalid(reason="artifactType is not text")
    return artifact_type


def annotations_of(document: dict[str, Any]) -> dict[str, str]:
    """Return the document's ``annotations``.

    Raises:
        ManifestInvalid: they do not map texts to texts.

    Source: OCI image-spec v1.1, annotations.md, "Rules".
    """
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        raise ManifestInvalid(reason="annotations do not map texts to texts")
    return annotations


def refuse(document: dict[str, Any], *keys: str) -> None:
    """Raise ManifestInvalid if *document* has any of *keys*: they would make it readable as another format.

    Source: CVE-2021-41190, "type confusion".
    """
    found = sorted(key for key in document if key.casefold() in keys)
    if found:
        raise ManifestInvalid(reason=f"{', '.join(found)} does not belong here")
