"""Which files are on this machine."""

import os
from pathlib import Path

import pytest

from dualreg.mountinfo import is_local

#: As proc_pid_mountinfo(5) describes it, with a blank and a backslash in names.
MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
30 22 0:40 / /srv/far rw,relatime shared:7 master:2 - nfs4 host:/far rw
31 30 8:2 / /srv/far/near rw - xfs /dev/sdb1 rw
32 22 0:41 / /srv/a\040b\134c rw - fuse.sshfs host: rw
33 22 0:42 / /srv/over rw - nfs host:/over rw
34 33 8:3 / /srv/over rw - btrfs /dev/sdc1 rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/data", True),
        ("/", True),
        ("/srv/far", False),
        ("/srv/far/data/catalog.sqlite3", False),
        ("/srv/farther", True),
        ("/srv/far/near/data", True),
        ("/srv/far/near/../data", False),
        ("/srv/a b\\c/data", False),
        ("/srv/over/data", True),
        ("/proc/self", False),
    ],
)
def test_a_file_is_where_its_last_mount_says(
    monkeypatch: pytest.MonkeyPatch, path: str, *, expected: bool
) -> None:
    """The innermost folder that something is mounted on decides, and the last that was mounted on it."""
    monkeypatch.setattr(Path, "read_text", lambda *_: MOUNTS.strip())
    monkeypatch.setattr(Path, "resolve", lambda each: Path(os.path.normpath(each)))
    assert is_local.__wrapped__(Path(path)) is expected


def test_elsewhere_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no such list."""

    def fail(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    assert not is_local.__wrapped__(Path("/srv"))
