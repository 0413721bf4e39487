"""The registries that are compared: ours, and the reference registry where Debian's package is installed."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dualreg import __version__
from tests.programs import dualreg_server, free_port, running, wait_until_up

#: With its fast settings: blob descriptors in memory, no access log.
_REFERENCE_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  cache: {{blobdescriptor: inmemory}}
  delete: {{enabled: true}}
http: {{addr: "{host}"}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A registry that runs.

    Attributes:
        host: HOST:PORT.
        root: The folder of its tree, from which measured blobs are taken away again.
    """

    name: str
    host: str
    root: Path
    speaks_v1: bool

    def forget(self, digest: str) -> None:
        """Remove a blob's bytes from the disk."""
        algorithm, _, digits = digest.partition(":")
        blob = self.root / "docker/registry/v2/blobs" / algorithm / digits[:2] / digits / "data"
        blob.unlink(missing_ok=True)


@contextmanager
def dualreg(folder: Path) -> Iterator[Server]:
    """Run dualreg as it is by default, only without an access log."""
    data = folder / "dualreg"
    with dualreg_server(data, access_log="false") as host:
        yield Server("dualreg", host, data, speaks_v1=True)


@contextmanager
def reference(folder: Path) -> Iterator[Server | None]:
    """Run the reference registry on the same disk; None if it is not installed."""
    if shutil.which("docker-registry") is None:
        yield None
        return
    host, root = f"127.0.0.1:{free_port()}", folder / "reference"
    config, log = folder / "reference.yml", folder / "reference.log"
    config.write_text(_REFERENCE_CONFIG.format(root=root, host=host), encoding="utf-8")
    with running(["docker-registry", "serve", config], log) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield Server("reference", host, root, speaks_v1=False)


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {
        "dualreg": __version__,
        "python": platform.python_version(),
        "gunicorn": version("gunicorn"),
        "kernel": platform.release(),
    }
    if shutil.which("docker-registry"):
        found["reference"] = _said("docker-registry", "--version").split()[-1]
    if shutil.which("wrk"):
        found["wrk"] = _said("wrk", "-v").split()[1]
    return found


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr
