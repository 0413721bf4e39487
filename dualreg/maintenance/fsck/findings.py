"""Findings of a check: what is damaged, and the repositories, tags and generations of clients it hurts."""

from dataclasses import dataclass, field
from enum import StrEnum

from dualreg.catalog.checks import Users
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName


class Kind(StrEnum):
    """The kinds of damage."""

    #: The catalog lists a blob whose file is missing.
    LOST = "lost-blob"
    #: A file has another size than the catalog says.
    SIZE = "wrong-size"
    #: A file does not have the digest of its name.
    CORRUPT = "corrupt-blob"
    #: A file cannot be read.
    UNREADABLE = "unreadable-blob"
    #: A file that the catalog does not list.
    ORPHAN = "orphan-blob"
    #: A link file is missing.
    NO_LINK = "missing-link"
    #: A link file says something else than the catalog.
    WRONG_LINK = "wrong-link"
    #: A link file of something that the catalog does not list.
    STRAY_LINK = "stray-link"
    #: A manifest names content that the repository does not have.
    CHILD = "missing-child"
    #: The catalog does not list what a manifest names, though the repository has it.
    UNLISTED = "unlisted-child"
    #: The catalog has another media type than the document, or the document is no such manifest.
    MEDIA_TYPE = "wrong-media-type"
    #: The view of a manifest for clients of another generation is not in the repository.
    VIEW = "lost-view"
    #: What is used of a quota is not what counts for it.
    QUOTA = "wrong-quota"
    #: The parent of a V1 image is not in the repository.
    PARENT = "missing-parent"


#: The generations of clients, as findings name them.
V1, SCHEMA1, MODERN = "V1", "schema 1", "schema 2/OCI"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is damaged.

    Attributes:
        where: A digest, ``repository@digest``, or the path of a link file.
        digest: The blob or manifest that is damaged.
        repository: Where it is damaged, if only there.
        hurts: What cannot be used: tags as ``repository:tag``, or repositories where no tag leads to it.
        clients: The generations of clients that cannot use it.
        detail: What the repair needs to know, by kind: a kind of view, or a media type.
    """

    kind: Kind
    where: str
    text: str
    digest: Digest | None = None
    repository: RepositoryName | None = None
    repositories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    detail: str = field(default="", repr=False)


def hurt_clients(users: Users) -> tuple[str, ...]:
    """Return the generations of clients that cannot use what *users* need.

    Schema 1 is generated from images, and V1 clients see these as V1 images, once these have been derived.
    """
    images = media_types.IMAGES | media_types.SCHEMA1_TYPES
    if users.is_signed and users.media_types <= media_types.SCHEMA1_TYPES:
        return (SCHEMA1,)
    hurt = {
        V1: bool(users.images),
        SCHEMA1: not users.media_types.isdisjoint(images),
        MODERN: bool(users.media_types),
    }
    return tuple(client for client, is_hurt in hurt.items() if is_hurt)
