"""A machine that systemd runs, with the programs of this one and dualreg in ``/opt/dualreg``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sysconfig import get_path

from tests.clients.tools import Failed, Tools
from tests.deploy.base import LIBRARIES, make_base
from tests.deploy.homes import container_home
from tests.programs import require, require_root, until

ROOT = Path(__file__).parents[2]
#: Where the checkout is on the machine.
CHECKOUT = Path("/srv/dualreg")
#: What the machine has of this one's configuration, as packages left it.
_CONFIGURATION = (
    "alternatives",
    "ca-certificates",
    "nginx",
    "passwd",
    "group",
    "ld.so.cache",
    "nsswitch.conf",
)
#: The command: this checkout, instead of what `pip install` writes.
_SCRIPT = f"""#!/bin/sh
export LD_LIBRARY_PATH={LIBRARIES} PYTHONPATH={CHECKOUT}
exec /opt/dualreg/bin/python -m dualreg "$@"
"""


@dataclass
class Machine:
    """A running machine, which only itself can reach.

    Attributes:
        root: Its file system.
    """

    tools: Tools
    name: str
    root: Path

    def run(self, script: str) -> str:
        """Run commands as root in the checkout; return what they wrote.

        Raises:
            Failed: one failed.
        """
        return self.tools.podman("exec", "--workdir", CHECKOUT, self.name, "/bin/sh", "-euc", script)

    def succeeds(self, script: str) -> bool:
        """Return whether commands succeed."""
        try:
            self.run(script)
        except Failed:
            return False
        return True


@contextmanager
def running_machine() -> Iterator[Machine]:
    """Boot a machine for the block."""
    require_root()
    require("podman", package="podman")
    require("runc", package="runc")
    require("systemctl", "systemd-analyze", package="systemd")
    require("dbus-daemon", package="dbus")
    with container_home() as home:
        tools, root = Tools(home, ""), home / "root"
        make_base(home / "base")
        _install(root)
        volumes = {
            "/usr": "/usr:ro",
            f"{home}/base/usr/local": "/usr/local",
            get_path("purelib"): f"/opt/dualreg/lib/{Path(get_path('stdlib')).name}/site-packages:ro",
            str(ROOT): f"{CHECKOUT}:ro",
        }
        options = [f"--volume={source}:{target}" for source, target in volumes.items()]
        options += ["--systemd=always", "--privileged", "--network=none", "--hostname=registry.example.com"]
        tools.podman("run", "-d", "--name=machine", *options, "--rootfs", root, "/lib/systemd/systemd")
        machine = Machine(tools, "machine", root)
        try:
            assert until(
                lambda: machine.succeeds("systemctl is-system-running | grep -E 'running|degraded'"), 60
            )
            yield machine
        finally:
            tools.podman("kill", "machine")
            tools.podman("rm", "-f", "machine")


def _install(root: Path) -> None:
    """Write the machine's own files: configuration of packages, and an environment of Python for dualreg."""
    for name in (
        "etc/systemd/system",
        "opt/dualreg/bin",
        "root",
        "srv",
        "tmp",
        "var/lib",
        "var/log/nginx",
        "var/lib/nginx",
        "var/backups",
    ):
        (root / name).mkdir(parents=True)
    (root / "etc/machine-id").touch()
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in _CONFIGURATION:
        source, target = Path("/etc") / name, root / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        elif source.exists():
            shutil.copy2(source, target)
    (root / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    environment = root / "opt/dualreg"
    (environment / "pyvenv.cfg").write_text("home = /usr/local/bin\n")
    (environment / "bin/python").symlink_to("/usr/local/bin/python3")
    (environment / "bin/dualreg").write_text(_SCRIPT)
    (environment / "bin/dualreg").chmod(0o755)
