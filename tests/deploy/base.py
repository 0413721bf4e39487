"""A base image without a network: the interpreter that runs the tests, and what it needs of this machine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pip

#: What the interpreter does without, of its library.
_LEFT_OUT = (
    "test",
    "site-packages",
    "idlelib",
    "tkinter",
    "lib2to3",
    "ensurepip",
    "turtledemo",
)
#: Modules stay compiled, as a container would do that at each start, but not for ``python -O``. What another
#: process is writing is left out, too.
_LEFT_OUT_PATTERNS = (*_LEFT_OUT, "config-*", "_tkinter*", "_test*", "*.opt-?.pyc", "*.pyc.*")
#: What packages with compiled parts link to, besides the libraries of the interpreter.
_LIBRARIES = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libgcc_s.so.1")
#: Where the library of the interpreter itself is: a value for LD_LIBRARY_PATH.
LIBRARIES = Path("/usr/local/lib")
_APPLETS = ("sh", "mkdir", "cat", "ls", "cp", "sed")


def make_base(root: Path) -> None:
    """Write a file system with Python in ``/usr/local``, pip, and a shell into *root*."""
    library = root / f"usr/local/lib/python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(Path(os.__file__).parent, library, ignore=shutil.ignore_patterns(*_LEFT_OUT_PATTERNS))
    shutil.copytree(Path(pip.__file__).parent, library / "site-packages/pip")
    programs = root / "usr/local/bin"
    programs.mkdir()
    python = Path(sys.executable).resolve()
    shutil.copy2(python, programs / "python3")
    copy_libraries(root, python, *library.glob("lib-dynload/*.so"))
    make_shell(root)


def make_shell(root: Path) -> None:
    """Write a shell, and the folders that any program expects, into *root*."""
    for name in ("bin", "etc", "tmp", "usr/bin"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for applet in _APPLETS:
        shutil.copy2("/bin/busybox", root / "bin" / applet)


def copy_libraries(root: Path, *files: Path) -> None:
    """Copy the libraries that *files* are linked to; those of an interpreter's own folder, to LIBRARIES."""
    text = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    found = {Path(line) for line in re.findall(r"(/\S+) \(0x", text)}
    system = next(path for path in found if path.name.startswith("libc.so")).parent
    for path in found | {system / name for name in _LIBRARIES}:
        own = path.is_relative_to(sys.base_prefix) and sys.base_prefix != "/usr"
        target = root / ((LIBRARIES / path.name) if own else path).relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
