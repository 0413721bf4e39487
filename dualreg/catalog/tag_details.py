"""SQL of what a list of tags shows of the manifests that they point at: other tags, and signatures."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Connection, String, cast, exists, func, or_, select
from sqlalchemy.orm import aliased

from dualreg.catalog.tables import Manifests, Tags
from dualreg.image.digest import Digest
from dualreg.image.names import Tag
from dualreg.image.signatures import bundle, notation

#: Tags of a manifest that are listed, and referrers of it that are looked at.
ALIASES_LIMIT, _REFERRERS_LIMIT = 12, 200
#: Types of referrers that are signatures, and those that are if their annotations say so.
#: Source: cosign, specs/SIGNATURE_SPEC.md and specs/BUNDLE_SPEC.md.
_SIGNATURES = (notation.ARTIFACT, "application/vnd.dev.cosign.artifact.sig.v1+json")
_IN_BUNDLES = ("sigstore.dev/cosign/sign/", "message-signature")


class Named(NamedTuple):
    """What leads to a manifest, and is about it.

    Attributes:
        tags: Those that point at it; one more than ALIASES_LIMIT of them, if there are more than that.
        is_signed: Whether a signature refers to it. Nobody has verified it.
    """

    tags: tuple[Tag, ...]
    is_signed: bool


#: What is known of a manifest that was just deleted.
_UNKNOWN = Named((), is_signed=False)


def named(connection: Connection, repository_id: int, manifests: Collection[Digest]) -> dict[Digest, Named]:
    """Return what is known of *manifests* of a repository, which are those of a page, in one query.

    However many tags and referrers a manifest has, some of them are looked at.
    """
    tag, about = aliased(Tags), aliased(Manifests)
    some = select(tag.name).where(tag.repository_id == repository_id, tag.manifest == Manifests.digest)
    names = some.limit(ALIASES_LIMIT + 1).correlate(Manifests).subquery()
    listed = select(func.aggregate_strings(names.c.name, ",")).scalar_subquery()
    signing = select(about.artifact_type, cast(about.annotations, String).label("annotations")).where(
        about.repository_id == repository_id,
        about.subject == Manifests.digest,
        about.artifact_type.in_((*_SIGNATURES, bundle.ARTIFACT)),
    )
    found = signing.limit(_REFERRERS_LIMIT).correlate(Manifests).subquery()
    says_so = or_(*(found.c.annotations.contains(text, autoescape=True) for text in _IN_BUNDLES))
    is_signed = exists(
        select(found.c.artifact_type).where(or_(found.c.artifact_type.in_(_SIGNATURES), says_so))
    )
    query = select(Manifests.digest, listed, is_signed).where(
        Manifests.repository_id == repository_id, Manifests.digest.in_(manifests)
    )
    known = {
        digest: Named(tuple(sorted(map(Tag, names.split(",")))) if names else (), bool(signed))
        for digest, names, signed in connection.execute(query)
    }
    return {digest: known.get(digest, _UNKNOWN) for digest in manifests}
