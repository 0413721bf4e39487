"""Mount info: which files are on this machine, so that the kernel asks no other one about them."""

import re
from functools import cache
from pathlib import Path

#: Types of file systems on disks of this machine, of which the kernel remembers what it has looked up. Those
#: of networks and of other processes (FUSE) are asked again.
_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
_ESCAPE = re.compile(r"\\([0-7]{3})")


@cache  # of few folders; what is mounted later counts after the next start
def is_local(path: Path) -> bool:
    """Return whether *path* is known to be on a file system of this machine.

    Source: proc_pid_mountinfo(5).
    """
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return False  # not Linux
    mounts = {}
    for line in lines:
        where, _, what = line.partition(" - ")
        mounts[Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), where.split()[4]))] = what.split()[0]
    resolved = path.resolve()
    return next((mounts[each] in _LOCAL for each in (resolved, *resolved.parents) if each in mounts), False)
