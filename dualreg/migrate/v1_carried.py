"""V1 images that are carried with manifests: those that V1 clients pushed, and see the manifests as.

In a folder of volumes, they are a file, ``v1-images.json``; their JSONs and layers are blobs in the volumes::

    {"REPOSITORY": {
        "manifests": {"sha256:…": "ID of the top image"},
        "images": {"ID": {"json": "sha256:…", "layer": "sha256:…", "diff_id": "sha256:…", "parent": "ID",
                          "checksum": "sha256:…", "tarsum": "…", "tarsum_verified": true}}}}

What is not known of an image is left out.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dualreg.errors import DigestInvalid, ImageIdInvalid
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId
from dualreg.image.tarsum import is_tarsum
from dualreg.image.v1_image import CHAIN_LIMIT
from dualreg.storage.names import V1Name

#: The name of the file.
V1_IMAGES = "v1-images.json"


@dataclass
class CarriedImages:
    """What such a file says, as it says it: an image that is invalid is no reason to refuse others."""

    repositories: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return what a file says.

        Raises:
            ValueError: it is invalid.
        """
        try:
            found = json.loads(content)
            parts = [(each["manifests"], each["images"]) for each in found.values()]
        except (LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("expected manifests and images by repository") from error
        if not all(isinstance(part, dict) for each in parts for part in each):
            raise ValueError("expected objects of manifests and images")
        return cls(found)

    def serialize(self) -> bytes:
        """Return the content of the file."""
        return json.dumps(self.repositories, indent=1, sort_keys=True).encode()

    def add(self, repository: str, manifest: Digest, chain: Iterable[V1Name]) -> bool:
        """Add a manifest and its images, base first; return whether that is new."""
        own = self.repositories.setdefault(repository, {"manifests": {}, "images": {}})
        top = ""
        for each in chain:
            own["images"][each.id], top = _members(each), each.id
        before: object = own["manifests"].get(str(manifest))
        own["manifests"][str(manifest)] = top
        return before != top

    def chain(self, repository: str, manifest: Digest) -> list[V1Name]:
        """Return the images that a manifest is seen as, base first; none if nothing is said of it.

        A layout may be imported under the name of another repository: if only one has the manifest, it is
        that one.

        Raises:
            ValueError: they do not form a chain.
        """
        own = self._home(repository, str(manifest))
        if own is None:
            return []
        chain, wanted = list[V1Name](), own["manifests"][str(manifest)]
        while wanted:
            found = own["images"].get(wanted) if isinstance(wanted, str) else None
            if len(chain) >= CHAIN_LIMIT or not isinstance(found, dict):
                raise ValueError(f"image {wanted} is missing, or its own ancestor")
            chain.append(_image(wanted, found))
            wanted = chain[-1].parent
        return chain[::-1]

    def _home(self, repository: str, manifest: str) -> Mapping[str, Any] | None:
        """Return what is said of the repository, or of the only other one that has the manifest."""
        own = self.repositories.get(repository)
        if own and manifest in own["manifests"]:
            return own  # type: ignore[no-any-return]  # as ``parse`` has checked
        homes = [each for each in self.repositories.values() if manifest in each["manifests"]]
        return homes[0] if len(homes) == 1 else None


def _members(image: V1Name) -> Mapping[str, object]:
    members = {name: getattr(image, name) for name in ("parent", "tarsum", "tarsum_verified")}
    digests = (("json", image.json), ("layer", image.layer), ("diff_id", image.diff_id))
    members |= {name: digest and str(digest) for name, digest in (*digests, ("checksum", image.checksum))}
    return {name: value for name, value in members.items() if value is not None}


def _image(id_: str, members: Mapping[str, Any]) -> V1Name:
    """Return an image.

    Raises:
        ValueError: it is invalid.
    """
    try:
        parent, diff_id, checksum = (members.get(name) for name in ("parent", "diff_id", "checksum"))
        tarsum, verified = members.get("tarsum"), members.get("tarsum_verified")
        if tarsum is not None and not is_tarsum(tarsum):  # V1 clients get it in a header
            raise ValueError(f"image {id_} is invalid")
        return V1Name(
            ImageId.parse(id_),
            Digest.parse(members["json"]),
            Digest.parse(members["layer"]),
            ImageId.parse(parent) if parent else None,
            Digest.parse(diff_id) if diff_id else None,
            Digest.parse(checksum) if checksum else None,
            tarsum,
            None if verified is None else bool(verified),
        )
    except (DigestInvalid, ImageIdInvalid, LookupError, TypeError) as error:
        raise ValueError(f"image {id_} is invalid") from error
