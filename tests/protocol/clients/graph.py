"""The local storage of Docker 1.8 and 1.9: what a daemon makes of a V1 JSON that it pulled, and of its layer.

It decodes the JSON and writes what it knows anew, so that the id and the meaning stay, and the bytes do not.

Source: moby 1.8, ``graph/graph.go`` (storeImage), ``image/image.go``, ``runconfig/config.go``.
"""

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

from tests.builders import V1Pushed
from tests.protocol.clients.tarsum import unpacked

#: The members of a configuration, with the zero value of each; None before those that are left out if empty.
_CONFIG: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "ExposedPorts": ...,
    "PublishService": ...,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "VolumeDriver": ...,
    "WorkingDir": "",
    "Entrypoint": None,
    "NetworkDisabled": ...,
    "MacAddress": ...,
    "OnBuild": None,
    "Labels": None,
}


def stored(image: V1Pushed) -> V1Pushed:
    """Return a pulled image as the daemon pushes it: its JSON written anew, its layer compressed anew."""
    document = json.loads(image.json)
    texts = ("comment", "container", "docker_version", "author", "architecture", "os")
    kept = {name: document[name] for name in texts if document.get(name)}
    written = {
        "id": document["id"],
        **({"parent": document["parent"]} if document.get("parent") else {}),
        **({"comment": kept["comment"]} if "comment" in kept else {}),
        "created": _time(document.get("created")),
        **({"container": kept["container"]} if "container" in kept else {}),
        "container_config": _config(document.get("container_config") or {}),
        **{name: kept[name] for name in ("docker_version", "author") if name in kept},
        **({"config": _config(document["config"])} if document.get("config") is not None else {}),
        **{name: kept[name] for name in ("architecture", "os") if name in kept},
        "Size": len(unpacked(image.layer)),
    }
    text = json.dumps(written, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return V1Pushed(image.id, text.encode() + b"\n", compressed(unpacked(image.layer)))


def stored_chain(chain: Sequence[V1Pushed]) -> list[V1Pushed]:
    """Return a chain as the daemon pushes it."""
    return [stored(image) for image in chain]


def compressed(tar: bytes) -> bytes:
    """Return *tar* as gzip, in other bytes than Python's or an earlier release's."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(tar) + packer.flush()


def _config(document: dict[str, Any]) -> dict[str, Any]:
    members = {}
    for name, zero in _CONFIG.items():
        value = document.get(name)
        if name in ("Cmd", "Entrypoint") and isinstance(value, str):
            value = [value]
        if value or zero is not ...:
            members[name] = value or zero
    return members


def _time(created: str | None) -> str:
    """Return a time as Go writes it: fractions without zeros at their end."""
    return re.sub(r"\.?0+(?=Z|[+-])", "", created) if created and "." in created else created or _NO_TIME


_NO_TIME = "0001-01-01T00:00:00Z"
