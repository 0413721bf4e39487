"""Conversions to and from Docker schema 1: of V1 chains, and of schema 2 and OCI images.

Deterministic, like ``convert``: the results are payloads without signatures, which ``jws`` adds. They are the
same in every release with the same RULES.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dualreg.errors import ImageIdInvalid
from dualreg.image.convert import Link, V1Layer, read_image
from dualreg.image.digest import Digest
from dualreg.image.documents import dump, parse_object, without
from dualreg.image.layer import empty_layer
from dualreg.image.manifest import Manifest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.image.v1_image import CHAIN_LIMIT, V1Image

#: The version of these rules; editions are recorded with it, and those of other versions are kept.
RULES = 1
#: What begins the kind of view that such a manifest is recorded as, and letters that follow: for 65 bits.
KIND = "s1-"
_LETTERS = 13
#: Hex digits of the ids that schema 1 clients accept; the oldest V1 images have fewer.
_ID_DIGITS = 64
#: The zero time, as Go writes it.
_NO_TIME = "0001-01-01T00:00:00Z"


def schema1_from_chain(chain: Sequence[Link], name: RepositoryName, tag: Tag) -> bytes:
    """Return the payload of a V1 chain, base first, with the ids and JSON of its images.

    Ids of 16 digits, which schema 1 clients refuse, are replaced by their SHA-256.
    """
    texts = [link.image.json.decode() for link in chain]
    if any(len(link.image.id) != _ID_DIGITS for link in chain):
        texts = [_with_full_ids(text) for text in texts]
    digests = [link.layer.digest for link in chain]
    top = parse_object(chain[-1].image.json)
    return _payload(name, tag, top.get("architecture"), zip(digests, texts, strict=True))


def schema1_from_image(manifest: Manifest, config: bytes, name: RepositoryName, tag: Tag) -> bytes | None:
    """Return the payload of an image manifest; None if schema 1 cannot express the image.

    It cannot if a layer is zstd or non-distributable, the config does not list the diff IDs of the layers, or
    the history has more than CHAIN_LIMIT steps. A history that is missing or does not fit the layers is
    replaced by one step for each layer, as V1 clients see the image.

    Source: distribution 2.3 to 2.8, ``manifest/schema1/config_builder.go``; the ids are the same.
    """
    steps = _steps(manifest, config)
    if steps is None:
        return None
    document, pairs = steps
    parent, entries = "", list[tuple[Digest, str]]()
    for digest, entry in pairs[:-1]:
        image = step_id(digest, parent)
        entries.append((digest, dump(_step(image, parent, entry)).decode()))
        parent = image
    digest, entry = pairs[-1]
    members = without(document, ("rootfs", "history", "id", "parent", "throwaway"))
    members["id"] = _hash(digest.hex, parent, config)
    members |= ({"parent": parent} if parent else {}) | ({"throwaway": True} if _is_empty(entry) else {})
    entries.append((digest, dump(dict(sorted(members.items()))).decode()))
    return _payload(name, tag, document.get("architecture"), entries)


def kind_for(tag: Tag) -> str:
    """Return what the schema 1 edition of an image for a tag is recorded as.

    The tag is part of the payload, and longer than a kind may be.
    """
    hashed = base64.b32encode(hashlib.sha256(f"{RULES} {tag}".encode()).digest()).decode()
    return f"{KIND}{hashed[:_LETTERS].lower()}"


def outline(name: RepositoryName, tag: Tag) -> bytes:
    """Return the first bytes of any payload for a tag that this module makes."""
    return dump({"schemaVersion": 1, "name": name, "tag": tag}, indent=3).removesuffix(b"\n}")


def chain_from_schema1(payload: bytes, layers: Mapping[Digest, V1Layer]) -> tuple[Link, ...] | None:
    """Return the V1 chain, base first, of a schema 1 payload; None if its ids form no chain.

    A list of more than CHAIN_LIMIT images is none. Its order is authoritative: a JSON with another parent is
    corrected.

    Args:
        layers: By digest, every layer that the payload names.
    """
    document = parse_object(payload)
    if len(document["history"]) > CHAIN_LIMIT:
        return None
    chain: list[Link] = []
    for layer, entry in zip(reversed(document["fsLayers"]), reversed(document["history"]), strict=True):
        text = entry["v1Compatibility"]
        members = parse_object(text.encode())
        try:
            image = ImageId.parse(str(members.get("id")))
        except ImageIdInvalid:
            return None
        if chain and chain[-1].image.id == image:
            continue  # Docker 1.6 lists the topmost image twice
        parent = chain[-1].image.id if chain else None
        others = without(members, ("parent",))
        if (members.get("parent") or None) != parent or {*members} - {*others} - {"parent"}:
            text = dump(others | ({"parent": parent} if parent else {})).decode()
        chain.append(Link(V1Image(image, parent, text.encode()), layers[Digest.parse(layer["blobSum"])]))
    return tuple(chain) if len({link.image.id for link in chain}) == len(chain) else None


def step_id(layer: Digest, parent: str) -> str:
    """Return the ID that distribution and Docker 1.10 compute for an image below the top.

    It does not depend on the JSON.

    Args:
        parent: The ID of the image below; empty for a base.

    Source: distribution 2.3 to 2.8, ``manifest/schema1/config_builder.go``.
    """
    return _hash(layer.hex, parent)


def _steps(
    manifest: Manifest, config: bytes
) -> tuple[dict[str, Any], list[tuple[Digest, Mapping[str, Any]]]] | None:
    """Return the config with the blob and history entry of each step, base first; None: not an image."""
    read = read_image(manifest, config)
    if read is None:
        return None
    digests, empty = iter(layer.digest for layer in read.layers), empty_layer().digest
    history = _history(read.document.get("history"), len(read.layers))
    if len(history) > CHAIN_LIMIT:
        return None
    return read.document, [(empty if _is_empty(entry) else next(digests), entry) for entry in history]


def _history(listed: object, layers: int) -> list[dict[str, Any]]:
    """Return the history of a config if it fits that many *layers*, else one without texts.

    Source: OCI image-spec v1.1, config.md: ``history`` is optional.
    """
    entries = listed if isinstance(listed, list) else []
    fits = all(isinstance(entry, dict) for entry in entries) and layers == sum(
        not _is_empty(entry) for entry in entries
    )
    return entries if entries and fits else [{}] * layers or [{"empty_layer": True}]


def _step(image: str, parent: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the V1 JSON of a step below the top, with members in distribution's order."""
    texts = {key: entry.get(key) for key in ("comment", "created", "created_by", "author")}
    known = {key: text for key, text in texts.items() if isinstance(text, str) and text}
    return {
        "id": image,
        **({"parent": parent} if parent else {}),
        **({"comment": known["comment"]} if "comment" in known else {}),
        "created": known.get("created", _NO_TIME),
        "container_config": {"Cmd": [known.get("created_by", "")]},
        **({"author": known["author"]} if "author" in known else {}),
        **({"throwaway": True} if _is_empty(entry) else {}),
    }


def _payload(name: str, tag: str, architecture: object, base_first: Iterable[tuple[Digest, str]]) -> bytes:
    top_first = [*base_first][::-1]
    document = {
        "schemaVersion": 1,
        "name": name,
        "tag": tag,
        "architecture": architecture if isinstance(architecture, str) and architecture else "amd64",
        "fsLayers": [{"blobSum": str(digest)} for digest, _ in top_first],
        "history": [{"v1Compatibility": text} for _, text in top_first],
    }
    return dump(document, indent=3)


def _with_full_ids(text: str) -> str:
    """Return a V1 JSON in which ids of 16 digits are replaced by their SHA-256."""
    members = parse_object(text.encode())
    for key in ("id", "parent"):
        image = members.get(key)
        if isinstance(image, str) and 0 < len(image) < _ID_DIGITS:
            members[key] = hashlib.sha256(image.encode()).hexdigest()
    return dump(members).decode()


def _is_empty(entry: Mapping[str, Any]) -> bool:
    return entry.get("empty_layer") is True


def _hash(blob: str, parent: str, config: bytes | None = None) -> str:
    text = f"{blob} {parent}".encode() + (b"" if config is None else b" " + config)
    return hashlib.sha256(text).hexdigest()
