"""A tar that is written once, from beginning to end, to wherever it is wanted."""

import tarfile
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO

from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.files import beside, settle


class TarFile:
    """A tar at a path, there when it is whole; what is no file, such as a pipe, is written straight into.

    Attributes:
        is_file: Whether it becomes a file, as opposed to bytes for somebody who reads along.
    """

    def __init__(self, path: Path | None, out: BinaryIO) -> None:
        """Write to *path*, or to *out*, from the first member on.

        Raises:
            NoTarget: *path* is a folder, or in none.
        """
        self.is_file = bool(path and (path.is_file() or not path.exists()))
        self._path, self._out = path.resolve() if path and self.is_file else path, out
        self._tar: tarfile.TarFile | None = None
        self._opened: IO[bytes] | None = None
        if path and path.is_dir():
            raise TargetInvalid(f"{path} is a folder")
        if self._path and not self._path.parent.is_dir():
            raise TargetInvalid(f"{self._path.parent}: no such folder")
        self._fresh = beside(self._path) if self._path else Path()
        self._finished = False

    def add(self, name: str, content: bytes | IO[bytes], size: int = 0) -> None:
        """Write a member; *size* is that of what is no bytes.

        Raises:
            NoTarget: it cannot be written; then nothing more can.
        """
        member = tarfile.TarInfo(name)
        member.size = len(content) if isinstance(content, bytes) else size
        try:
            self._begun().addfile(member, BytesIO(content) if isinstance(content, bytes) else content)
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> None:
        """Write the end, and put the file where it is wanted, durably.

        Raises:
            NoTarget: that cannot be.
        """
        try:
            self._begun().close()
            if self._opened and self._path and self.is_file:
                settle(self._opened, self._path)
            elif self._opened:
                self._opened.close()
        except OSError as error:
            raise self._failed(error) from error
        self._finished = True

    def abandon(self) -> None:
        """Let go whoever waits to read what nothing goes into: as discard, it tells nobody that it is whole.

        Raises:
            NoTarget: it cannot be opened.
        """
        if self._path and not self.is_file and not self._tar:
            try:
                self._path.open("wb").close()
            except OSError as error:
                raise self._failed(error) from error

    def discard(self) -> None:
        """Write no more; of what is not finished, no file is left, and no reader is told that it is whole."""
        if self._finished:
            return
        with suppress(OSError):
            if self._tar and self._tar.fileobj:
                self._tar.fileobj.close()  # its buffer; the tar's own end is left out
        with suppress(OSError):
            if self._opened:
                self._opened.close()
        if self.is_file:
            self._fresh.unlink(missing_ok=True)

    def _begun(self) -> tarfile.TarFile:
        if self._tar is None:
            if self._path:
                self._opened = self._fresh.open("xb") if self.is_file else self._path.open("wb")
            self._tar = tarfile.open(  # noqa: SIM115 -- finish closes it
                fileobj=self._opened or self._out, mode="w|", format=tarfile.PAX_FORMAT
            )
        return self._tar

    def _failed(self, error: OSError) -> TargetInvalid:
        return TargetInvalid(f"{self._path or 'the standard output'}: {error.strerror or error}")
