"""Recordings of stories."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.cuts.calls import TRACED, Call, read_calls
from tests.cuts.disk import Disk
from tests.cuts.stories import build
from tests.programs import environment, require


class Recording(NamedTuple):
    """What one story did to its folder.

    Attributes:
        disk: What was there before.
        calls: What changed it, in order.
    """

    disk: Disk
    calls: list[Call]

    def places(self) -> int:
        """Return how many calls and notes there are after which a story can be cut."""
        begun = next(at for at, call in enumerate(self.calls) if call.data.startswith(b'["begun"'))
        return len(self.calls) - begun


def record(story: str, folder: Path) -> Recording:
    """Run a story in *folder* under strace."""
    require("strace", package="strace")
    root, notes, log = folder.resolve() / "root", folder.resolve() / "notes", folder / "calls"
    root.mkdir(parents=True)
    notes.touch()
    build(root)
    disk = Disk(root)
    # With the filter, the process does not stop at calls that are not traced.
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-xx", "-s", "1048576"]
    command = [sys.executable, "-m", "tests.cuts.stories", story, str(root), str(notes)]
    words = [*strace, "-e", f"trace={TRACED}", "-o", str(log), *command]
    done = subprocess.run(
        words, env=environment(), cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    with log.open(encoding="ascii") as lines:
        return Recording(disk, [*read_calls(lines, str(root), str(notes))])
