"""``python -m tests.benchmarks.rebuild``: how fast the catalog of a large store is made again.

Layers and configs are small files with wrong content: a rebuild does not read them.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.programs import DUALREG, environment

#: Tags of a repository; each is an image with layers of its own, on base layers that all share.
_TAGS = 20
_OWN, _BASE = 2, 20
#: Link files of a repository: of blobs and manifests, manifests again, and tags.
_LINKS = _TAGS * (_OWN + 2) + _BASE + 2 * _TAGS


def main() -> None:
    """Build a tree, and rebuild its catalog."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        data, repositories = Path(folder) / "data", max(1, options.links // _LINKS)
        began = time.monotonic()
        tree = _Tree(data / "docker/registry/v2")
        for number in range(repositories):
            tree.repository(number)
        links = repositories * _LINKS
        sys.stdout.write(f"{links:,} link files in {time.monotonic() - began:,.0f} s\n")
        began = time.monotonic()
        line = [DUALREG, "db", "rebuild", "--data", data]
        subprocess.run(line, check=True, env=environment() | {"DUALREG_DATABASE": options.database})
        seconds = time.monotonic() - began
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        size = sum(path.stat().st_size for path in data.glob("catalog.sqlite3*"))
        sys.stdout.write(f"{seconds:,.0f} s, {links / seconds:,.0f} links/s, {memory:,.0f} MiB of memory")
        sys.stdout.write(f", catalog of {size / 1e6:,.0f} MB\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rebuild", description=main.__doc__)
    parser.add_argument("--links", type=int, default=1_000_000)
    parser.add_argument("--database", default="", help="URL of an empty database; default: SQLite")
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return parser.parse_args()


class _Tree:
    """Writes a tree without waiting for the disk."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)

    def repository(self, number: int) -> None:
        """Write a repository with everything in it."""
        name = f"group{number % 100}/repository{number}"
        base = [self._blob(name, f"{name} base {each}".encode()) for each in range(_BASE)]
        for tag in range(_TAGS):
            own = [self._blob(name, f"{name} {tag} {each}".encode()) for each in range(_OWN)]
            config = self._blob(name, f"{name} {tag} config".encode())
            digest = self._blob(name, self._manifest(config, base + own))
            revisions = f"repositories/{name}/_manifests"
            self._write(f"{revisions}/revisions/sha256/{digest}/link", f"sha256:{digest}".encode())
            self._write(f"{revisions}/tags/{tag}/current/link", f"sha256:{digest}".encode())

    def _manifest(self, config: str, layers: list[str]) -> bytes:
        kind = "application/vnd.docker"
        document = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.distribution.manifest.v2+json",
            "config": {
                "mediaType": f"{kind}.container.image.v1+json",
                "size": 9,
                "digest": f"sha256:{config}",
            },
            "layers": [
                {"mediaType": f"{kind}.image.rootfs.diff.tar.gzip", "size": 9, "digest": f"sha256:{layer}"}
                for layer in layers
            ],
        }
        return json.dumps(document).encode()

    def _blob(self, name: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        self._write(f"blobs/sha256/{digest[:2]}/{digest}/data", content)
        self._write(f"repositories/{name}/_layers/sha256/{digest}/link", f"sha256:{digest}".encode())
        return digest

    def _write(self, path: str, content: bytes) -> None:
        target = f"{self._root}/{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120 -- millions of them
        with open(target, "wb") as file:  # noqa: PTH123 -- the same
            file.write(content)


if __name__ == "__main__":
    main()
