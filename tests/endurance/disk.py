"""What is on the disk of a registry, and what must be: everything that can be pulled."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from tests.endurance.client import Client
from tests.protocol.clients.wire import need

#: Files that are no content: they do not become smaller with it.
_ASIDE = ("catalog.sqlite3", "audit.jsonl", "access.json", "migrations/")


def stored(data: Path) -> int:
    """Return the bytes of all files below *data* but those of the catalog: blobs, links, uploads."""
    total = 0
    for folder, _, names in os.walk(data):  # which passes over what is deleted meanwhile
        for path in (Path(folder, name) for name in names):
            if not path.relative_to(data).as_posix().startswith(_ASIDE):
                with suppress(FileNotFoundError):
                    total += path.stat().st_size
    return total


def alive(clients: list[Client]) -> int:
    """Pull everything that *clients* keep over both APIs, with its referrers; return its bytes, once each.

    Raises:
        WrongBytes, ProtocolError: it is not what was pushed.
    """
    sizes: dict[bytes, int] = {}
    for client in clients:
        for (repository, tag), content in client.kept.items():
            pulled = content.read_v1(client.v1, repository, tag) + content.read_v2(client.v2, repository, tag)
            _, manifest = client.v2.pull_manifest(repository, tag)
            subject = hashlib.sha256(manifest).hexdigest()
            pulled += _referrers(client, repository, f"sha256:{subject}")
            sizes |= {hashlib.sha256(data).digest(): len(data) for data in pulled}
    return sum(sizes.values())


def _referrers(client: Client, repository: str, subject: str) -> list[bytes]:
    answer = client.ask("GET", f"/v2/{repository}/referrers/{subject}")
    need(answer, 200, "GET referrers")
    found = []
    for entry in json.loads(answer.body)["manifests"]:
        pulled = client.v2.pull(repository, entry["digest"])
        found += [pulled.manifest, pulled.config, *pulled.layers]
    return found
