"""Pulls everything that a registry lists, over both APIs, and verifies it."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.manifest import stored
from tests.protocol.clients.wire import Answer, Wire

#: What a client accepts that understands everything.
_ACCEPT = [("Accept", kind) for kind in (*media_types.INDEXES, *media_types.IMAGES)]
Headers = Sequence[tuple[str, str]]
#: Whether a child of a manifest may be missing: where an index is sparse.
MayLack = Callable[[str, str], bool]


class NotPulled(AssertionError):
    """Something that is listed cannot be pulled."""


def pull_everything(wire: Wire, may_lack: MayLack = lambda *_: False) -> dict[tuple[str, str], str]:
    """Return the digest of each tag, after pulling all that belongs to it.

    Raises:
        NotPulled: something that is listed is missing or damaged.
    """
    found = {}
    for name in _get(wire, "/v2/_catalog")["repositories"]:
        tags = wire.send("GET", f"/v2/{name}/tags/list")
        for tag in json.loads(tags.body)["tags"] if tags.status == 200 else ():
            found[name, tag] = _pull(wire, name, tag, may_lack)
        _pull_v1(wire, name)
    return found


def pull_tag(wire: Wire, name: str, tag: str) -> str:
    """Pull a tag with all that belongs to it; return its digest.

    Raises:
        NotPulled: something is missing or damaged.
    """
    return _pull(wire, name, tag, lambda *_: False)


def _pull(wire: Wire, name: str, reference: str, may_lack: MayLack) -> str:
    answer = _need(wire, f"/v2/{name}/manifests/{reference}", _ACCEPT)
    digest = Digest.parse(answer.headers["docker-content-digest"])
    kind = answer.headers["content-type"]
    if kind in media_types.SCHEMA1_TYPES:
        document = json.loads(answer.body)
        for layer in document["fsLayers"]:
            _blob(wire, name, layer["blobSum"])
        return str(digest)
    manifest = stored(kind, answer.body, digest)
    for child in manifest.required:
        what = str(child.descriptor.digest)
        if child in manifest.entries and wire.send("GET", f"/v2/{name}/manifests/{what}").status == 200:
            _pull(wire, name, what, may_lack)
        elif not (child in manifest.entries and may_lack(name, what)):
            _blob(wire, name, what)
    return str(digest)


def _blob(wire: Wire, name: str, text: str) -> None:
    digest = Digest.parse(text)
    answer = _need(wire, f"/v2/{name}/blobs/{digest}")
    if Digest.of(answer.body, digest.algorithm) != digest:
        raise NotPulled(f"{name}@{digest} has other bytes")


def _pull_v1(wire: Wire, name: str) -> None:
    listed = wire.send("GET", f"/v1/repositories/{name}/tags")
    if listed.status == 404:
        return
    pulled, token = set[str](), _session(wire, name)
    for image in {*json.loads(listed.body).values()}:
        for each in _get(wire, f"/v1/images/{image}/ancestry", token):
            if each not in pulled:
                _need(wire, f"/v1/images/{each}/json", token)
                _need(wire, f"/v1/images/{each}/layer", token)
                pulled.add(each)


def _session(wire: Wire, name: str) -> list[tuple[str, str]]:
    answer = _need(wire, f"/v1/repositories/{name}/images", [("X-Docker-Token", "true")])
    return [("Authorization", f"Token {answer.headers['x-docker-token']}")]


def _get(wire: Wire, path: str, headers: Headers = ()) -> Any:
    return json.loads(_need(wire, path, headers).body)


def _need(wire: Wire, path: str, headers: Headers = ()) -> Answer:
    try:
        answer = wire.send("GET", path, headers)
    except OSError as error:
        raise NotPulled(f"GET {path}: {error}") from error
    if answer.status != 200:
        raise NotPulled(f"GET {path}: {answer.status} {answer.body[:200]!r}")
    return answer
