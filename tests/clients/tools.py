"""The programs that people push and pull with, each working in a folder of its own."""

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Lets containers run where root may not raise limits, has no bridge and no systemd.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""


class Failed(Exception):
    """A program ended with an error; the message has the command and what it wrote."""


@dataclass
class Tools:
    """Runs skopeo, buildah, podman and docker against a registry.

    Attributes:
        home: Where all of them keep everything.
        host: HOST:PORT of the registry.
        driver: How podman and buildah store images: ``overlay`` is faster, and needs a file system for it.
    """

    home: Path
    host: str
    driver: str = "vfs"
    env: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Write the configuration that they share."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "auth.json").write_text("{}")
        configuration = self.home / "containers.conf"
        configuration.write_text(_CONTAINERS_CONF)
        # The bundle's variable, where set, breaks Go programs that carry a client of Amazon's.
        inherited = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
        self.env = inherited | {
            "HOME": str(self.home),
            # Else a login of root's would be everybody's.
            "REGISTRY_AUTH_FILE": str(self.home / "auth.json"),
            "CONTAINERS_CONF": str(configuration),
            "TMPDIR": str(self.home),
            "DOCKER_HOST": f"unix://{self.home}/docker.sock",
        }

    def skopeo(self, *arguments: str | Path) -> str:
        """Run skopeo."""
        return self.run("skopeo", *arguments)

    def push(self, *arguments: str | Path, name: str) -> str:
        """Copy something to the registry as *name*, by skopeo."""
        return self.skopeo("copy", "--dest-tls-verify=false", *arguments, f"docker://{self.host}/{name}")

    def pull(self, name: str, target: str, *arguments: str) -> str:
        """Copy *name* from the registry, by skopeo."""
        source = f"docker://{self.host}/{name}"
        return self.skopeo("copy", "--src-tls-verify=false", *arguments, source, target)

    def raw(self, name: str) -> dict[str, Any]:
        """Return the manifest of *name* as the registry sends it."""
        command = ["inspect", "--raw", "--tls-verify=false", f"docker://{self.host}/{name}"]
        return json.loads(self.skopeo(*command))  # type: ignore[no-any-return]

    def buildah(self, *arguments: str | Path, store: str = "store") -> str:
        """Run buildah on the image store *store*."""
        return self.run("buildah", *self.storage(store), *arguments)

    def podman(self, *arguments: str | Path, store: str = "store") -> str:
        """Run podman on the image store *store*."""
        return self.run("podman", *self.storage(store), "--cgroup-manager=cgroupfs", *arguments)

    def docker(self, *arguments: str | Path) -> str:
        """Run docker on the daemon that listens in *home*."""
        return self.run("docker", *arguments)

    def storage(self, store: str) -> Sequence[str]:
        """Return the options of buildah and podman that choose the image store *store*."""
        place = self.home / store
        return ["--root", f"{place}/root", "--runroot", f"{place}/run", f"--storage-driver={self.driver}"]

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run a program; return what it wrote to its standard output."""
        command = [program, *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=300, check=False, cwd=self.home
        )
        if done.returncode:
            raise Failed(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()


def layout_manifest(layout: Path, tag: str) -> tuple[str, dict[str, Any]]:
    """Return the digest and the manifest of an image in an OCI layout."""
    index = json.loads((layout / "index.json").read_text())
    named = "org.opencontainers.image.ref.name"
    digest = next(
        entry["digest"] for entry in index["manifests"] if entry.get("annotations", {}).get(named) == tag
    )
    return digest, json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())


def digests(manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of a manifest's layers, base first."""
    return [layer["digest"] for layer in manifest["layers"]]


def verified(folder: Path) -> tuple[str, dict[str, Any]]:
    """Check every byte of a ``dir:`` folder of skopeo's; return the manifest's digest and document."""
    payload = (folder / "manifest.json").read_bytes()
    manifest = json.loads(payload)
    for entry in (manifest["config"], *manifest["layers"]):
        with (folder / entry["digest"].removeprefix("sha256:")).open("rb") as blob:
            assert f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}" == entry["digest"]
            assert blob.tell() == entry["size"]
    return f"sha256:{hashlib.sha256(payload).hexdigest()}", manifest
