"""What requests are made of: documents, blobs and V1 images that a registry takes."""

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from flask.testing import FlaskClient

from dualreg.image import media_types
from dualreg.image.digest import Digest
from tests import builders
from tests.builders import V1Pushed
from tests.documents import IMAGE, IN_USE
from tests.protocol.clients.generation import SCHEMA1_RELEASES
from tests.protocol.clients.libtrust import signed
from tests.protocol.clients.schema1 import daemon_key, schema1_payload
from tests.protocol.exchange import REPOSITORY, lone, push_blob

_IMAGE = builders.image(builders.layer({"fuzz": b"1"}), builders.layer({"fuzz": b"22"}))
_CHAIN = builders.v1_chain(builders.layer({"chain": b"1"}), builders.layer({"chain": b"2"}), seed="fuzz")


class Document(NamedTuple):
    """A manifest, as a client pushes it."""

    media_type: str
    payload: bytes


@cache
def manifests() -> Sequence[Document]:
    """Return manifests of every form; their blobs are those of ``prepare``."""
    about = json.loads(_IMAGE.manifest) | {"subject": builders.descriptor(IMAGE.media_type, IMAGE.manifest)}
    layers = [str(Digest.of(each.layer)) for each in _CHAIN]
    old = [schema1_payload(release, REPOSITORY, "one", _CHAIN, layers) for release in SCHEMA1_RELEASES[-2:]]
    return (
        Document(_IMAGE.media_type, _IMAGE.manifest),
        Document(IMAGE.media_type, IMAGE.manifest),
        Document(media_types.OCI_MANIFEST, json.dumps(about).encode()),
        Document(media_types.OCI_INDEX, builders.index(IMAGE)),
        Document(media_types.DOCKER_LIST, builders.index(IMAGE, oci=False)),
        *(Document(media_types.SCHEMA1, payload) for payload in old),
        *(Document(media_types.SCHEMA1_SIGNED, signed(payload, daemon_key())) for payload in old),
        *(Document(each.media_type, each.payload) for each in IN_USE.values()),
    )


@cache
def blobs() -> Sequence[bytes]:
    """Return layers in several forms, configs, and bytes of no form."""
    tar = builders.tar({"a": b"x" * 3000, "b/c": b"", ".wh.d": b""})
    return (*_IMAGE.blobs.values(), tar, gzip.compress(tar, mtime=0), _odd_tar(), b"", b"{}", b"\x1f\x8b\x08")


def _odd_tar() -> bytes:
    """Return a layer with members of many types, long names, and extended headers."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(f"{'long/' * 40}{number}\u00e4")
            member.type, member.linkname, member.pax_headers = (
                kind,
                "a" * 150,
                {"SCHILY.xattr.user.a": "\u00e4"},
            )
            archive.addfile(member)
    return out.getvalue()


@cache
def v1_images() -> Sequence[V1Pushed]:
    """Return V1 images that the registry does not have; some have a parent."""
    alone = [lone(f"fuzz {number}", layer) for number, layer in enumerate(blobs())]
    return (*alone, *builders.v1_chain(*blobs()[:3], seed="more"), *_CHAIN)


def prepare(client: FlaskClient) -> None:
    """Push what the manifests name."""
    for data in (*IMAGE.blobs.values(), *_IMAGE.blobs.values(), *(each.layer for each in _CHAIN)):
        push_blob(client, REPOSITORY, data)
    pushed = client.put(
        f"/v2/{REPOSITORY}/manifests/{IMAGE.digest}", data=IMAGE.manifest, content_type=IMAGE.media_type
    )
    assert pushed.status_code == 201
