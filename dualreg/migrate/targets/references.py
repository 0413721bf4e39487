"""References of a static tree: from which nginx learns the media type and digest of a manifest.

    nginx/<repository>/_manifests/<media type>/<digest>/manifest    the manifest
    nginx/<repository>/_references/<tag or digest>                  a symbolic link to the folder of one

nginx asks once, by ``$realpath_root``, where the link leads, and serves ``manifest`` there. So its
configuration does not depend on what is in the tree, and a tag moves at once, with its type and digest.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from dualreg.migrate.targets.files import link_file, temporary_name, write
from dualreg.ownership import make_folders
from dualreg.storage import durable

#: The folder of the tree that has all of it.
FOLDER = "nginx"


def refer(root: Path, repository: str, headers: Mapping[str, tuple[str, str]]) -> None:
    """Make the references of a repository: those of digests first, then those of tags.

    Args:
        headers: Media type and digest of manifests, by tag or digest; their files are in the tree.
    """
    folder = root / FOLDER / repository
    for name in sorted(headers, key=lambda name: (":" not in name, name)):
        kind, digest = headers[name]
        target = folder / "_manifests" / kind / digest
        _copy(root / "v2" / repository / "manifests" / digest, target / "manifest")
        _point(folder / "_references" / name, Path(os.path.relpath(target, folder / "_references")))


def _copy(source: Path, target: Path) -> None:
    """Give a file, that of a digest, a second name; or copy it where there are no hard links."""
    if not target.exists() and not link_file(target, source):
        write(target, [source.read_bytes()])


def _point(link: Path, target: Path) -> None:
    """Make a symbolic link, or have it lead elsewhere, atomically."""
    if link.is_symlink() and link.readlink() == target:
        return
    make_folders(link.parent, 0o777)
    fresh = temporary_name(link)
    fresh.symlink_to(target, target_is_directory=True)
    fresh.replace(link)
    durable.sync(link.parent)
