"""A tar archive that is written sequentially, to a file or a stream."""

import tarfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.files import replace_durably, temporary_name


class TarFile:
    """A tar archive. A file appears when it is complete; a pipe or device is written to directly.

    Attributes:
        is_file: Whether it becomes a regular file.
    """

    def __init__(self, path: Path | None, out: BinaryIO) -> None:
        """Write to *path*, or to *out* if there is no path; it is opened with the first member.

        Raises:
            TargetInvalid: *path* is a folder, or its folder does not exist.
        """
        self.is_file = bool(path and (path.is_file() or not path.exists()))
        self._path, self._out = path.resolve() if path and self.is_file else path, out
        self._tar: tarfile.TarFile | None = None
        self._opened: IO[bytes] | None = None
        if path and path.is_dir():
            raise TargetInvalid(f"{path} is a directory, not a file")
        if self._path and not self._path.parent.is_dir():
            raise TargetInvalid(f"{self._path.parent}: no such directory")
        self._temporary = temporary_name(self._path) if self._path else Path()
        self._finished = False

    def add(self, name: str, content: bytes | IO[bytes], size: int = 0) -> None:
        """Write a member.

        Args:
            size: Of the content, if it is a file.

        Raises:
            TargetInvalid: writing failed; the archive is unusable.
        """
        member = tarfile.TarInfo(name)
        member.size = len(content) if isinstance(content, bytes) else size
        try:
            self._open().addfile(member, BytesIO(content) if isinstance(content, bytes) else content)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Write the end of the archive, and rename a file to its path, durably.

        Raises:
            TargetInvalid: writing failed.
        """
        try:
            self._open().close()
            if self._opened and self._path and self.is_file:
                replace_durably(self._opened, self._path)
            elif self._opened:
                self._opened.close()
        except OSError as error:
            raise self._failed(error) from error
        self._finished = True

    def abandon(self) -> None:
        """Open and close a pipe to which nothing is written, so that its reader does not wait forever.

        Raises:
            TargetInvalid: it cannot be opened.
        """
        if self._path and not self.is_file and not self._tar:
            try:
                self._path.open("wb").close()
            except OSError as error:
                raise self._failed(error) from error

    def discard(self) -> None:
        """Release the archive; unless it is finished, remove its file, or leave a stream without its end."""
        if self._finished:
            return
        with suppress(OSError):
            if self._tar and self._tar.fileobj:
                self._tar.fileobj.close()  # flushes its buffer, without the end of the archive
        with suppress(OSError):
            if self._opened:
                self._opened.close()
        if self.is_file:
            self._temporary.unlink(missing_ok=True)

    def _open(self) -> tarfile.TarFile:
        if self._tar is None:
            if self._path:
                self._opened = self._temporary.open("xb") if self.is_file else self._path.open("wb")
            self._tar = tarfile.open(  # noqa: SIM115 -- finish closes it
                fileobj=self._opened or self._out, mode="w|", format=tarfile.PAX_FORMAT
            )
        return self._tar

    def _failed(self, error: OSError) -> TargetInvalid:
        return TargetInvalid(f"{self._path or 'the standard output'}: {error.strerror or error}")
