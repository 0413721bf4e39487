"""References of a static tree: from which nginx learns the media type and digest of a manifest.

    nginx/<repository>/_manifests/<media type>/<digest>/manifest    the manifest
    nginx/<repository>/_references/<tag or digest>                  a symbolic link to the folder of one

nginx asks once, by ``$realpath_root``, where the link leads, and serves ``manifest`` there. So its
configuration does not depend on what is in the tree, and a tag moves at once, with its type and digest.
"""

from collections.abc import Mapping
from pathlib import Path

from dualreg.migrate.targets.new_files import NewFiles, Rank

#: The folder of the tree that has all of it.
FOLDER = "nginx"


def refer(files: NewFiles, root: Path, repository: str, headers: Mapping[str, tuple[str, str]]) -> None:
    """Make the references of a repository: those of digests first, then those of tags.

    Args:
        files: Gives them their names; not all of them at once, if there are many.
        headers: Media type and digest of manifests, by tag or digest; their files are in the tree.
    """
    folder = root / FOLDER / repository
    for name in sorted(headers, key=lambda name: (":" not in name, name)):
        kind, digest = headers[name]
        place = f"_manifests/{kind}/{digest}"
        _copy(files, root / "v2" / repository / "manifests" / digest, folder / place / "manifest")
        rank = Rank.MANIFEST if ":" in name else Rank.TAG
        _point(files, folder / "_references" / name, f"../{place}", rank)
        if files.is_full:
            files.name()


def _copy(files: NewFiles, source: Path, target: Path) -> None:
    """Give a file, that of a digest, a second name; or copy it where there are no hard links."""
    if not (target.exists() or files.staged(target) or files.link(target, source, Rank.BLOB)):
        files.write(target, [source.read_bytes()], Rank.BLOB)


def _point(files: NewFiles, link: Path, target: str, rank: Rank) -> None:
    """Make a symbolic link, or have it lead elsewhere, atomically."""
    if not (link.is_symlink() and f"{link.readlink()}" == target):
        files.symlink(link, target, rank)
