"""Pushed: a manifest as it arrives, before anything of it is stored."""

from dualreg.errors import DigestMismatch, NameInvalid, TagInvalid
from dualreg.image.digest import CANONICAL, Digest
from dualreg.image.manifest import Manifest, parse
from dualreg.image.names import RepositoryName, Tag


def parse_pushed(
    repository: RepositoryName, reference: Tag | Digest, media_type: str, payload: bytes
) -> Manifest:
    """Read the manifest, by the algorithm of the digest that it is pushed under.

    Raises:
        ManifestInvalid, DigestMismatch, and for schema 1 that was signed for another place NameInvalid,
            TagInvalid.
    """
    algorithm = reference.algorithm if isinstance(reference, Digest) else CANONICAL
    manifest = parse(media_type, payload, algorithm=algorithm)
    if isinstance(reference, Digest) and manifest.digest != reference:
        raise DigestMismatch(digest=str(reference))
    _check_place(manifest, repository, reference)
    return manifest


def _check_place(manifest: Manifest, repository: RepositoryName, reference: Tag | Digest) -> None:
    """Refuse schema 1 that says it belongs elsewhere; under its digest, any tag will do.

    Raises:
        NameInvalid, TagInvalid.

    Source: distribution 2.0 to 2.2, ``handlers/images.go``.
    """
    if manifest.contents.place is None:
        return
    name, tag = manifest.contents.place
    if name != repository:
        raise NameInvalid(name=name[:255])
    if isinstance(reference, Tag) and tag != reference:
        raise TagInvalid(tag=tag[:255])
