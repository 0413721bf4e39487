"""Folders for what containers store, which are given up cleanly."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.programs import until
from tests.quick import memory_folder


@contextmanager
def container_home() -> Iterator[Path]:
    """Make a folder with a short path, in memory; at the end, no process and no mount is left in it."""
    with TemporaryDirectory(prefix="dualreg-", dir=memory_folder()) as home:
        yield Path(home)
        assert until(lambda: not _is_used(home), 60)
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (place := line.split()[4]).startswith(home):
                subprocess.run(["umount", "--lazy", place], check=True)


def _is_used(home: str) -> bool:
    """Return whether a process was started with the folder: podman cleans up after a container has ended."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if home.encode() in path.read_bytes():
                return True
    return False
