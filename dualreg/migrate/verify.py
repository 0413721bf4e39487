"""Verify: what is here, held against the source, tag by tag and layer by layer; no journal is asked."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from dualreg.errors import BlobMissing, ImageInvalid
from dualreg.image.digest import Digest
from dualreg.image.layer import DiffIdHasher, empty_layer
from dualreg.migrate.base import Comparison
from dualreg.migrate.findings import Broken
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.single_flight import SingleFlight
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import has_digest
from dualreg.registry.blobs import Blobs
from dualreg.remote.endpoint import RemoteError
from dualreg.storage.base import read_chunks


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a tag, if anything."""

    entry: Entry
    problems: tuple[str, ...]


def verify(comparison: Comparison, entries: Iterable[Entry], jobs: int) -> Iterator[Verdict]:
    """Yield a verdict on every entry of the plan that is not skipped, in its order."""

    def judge(entry: Entry) -> Verdict:
        try:
            return Verdict(entry, tuple(comparison.problems(entry)))
        except (Broken, RemoteError) as error:
            return Verdict(entry, (str(error),))

    wanted = [entry for entry in entries if entry.action is PlanAction.IMPORT]
    with ThreadPoolExecutor(jobs) as pool:
        yield from pool.map(judge, wanted)


class Bytes:
    """Reads bytes through and compares them, each once."""

    def __init__(self, blobs: Blobs, *, quick: bool = False) -> None:
        """Compare with *blobs*; *quick*: by sizes only."""
        self._blobs, self._quick = blobs, quick
        self._here, self._there, self._inside = (
            SingleFlight[Digest, str](),
            SingleFlight[str, str](),
            SingleFlight[Digest, str](),
        )

    def problems(self, name: str, digest: Digest, source: Callable[[], SourceBytes]) -> Iterator[str]:
        """Yield what is wrong with a blob, here and in the source, where it is called *name*."""
        if not self._quick and (wrong := self.here(digest)):
            yield f"{name}: {wrong}"
        if wrong := self._there.get(name, partial(self._look_there, digest, source)):
            yield f"{name}: {wrong}"

    def here(self, digest: Digest, size: int | None = None) -> str:
        """Return what is wrong with a blob here; empty if nothing is.

        Args:
            size: What it should have; None: it is a document, and small enough to be read in any case.
        """
        if digest == empty_layer().digest:
            return ""  # it need not be kept
        return self._here.get(digest, partial(self._look_here, digest, size))

    def inside(self, digest: Digest) -> str:
        """Return the diff id of a layer that is here, or why it has none."""
        return self._inside.get(digest, partial(self._look_inside, digest))

    def _look_here(self, digest: Digest, size: int | None) -> str:
        try:
            with self._blobs.open(digest) as reader:
                if self._quick and size is not None:
                    length = reader.seek(0, os.SEEK_END)
                    return "" if size == length else f"it has {length} bytes here, not {size}"
                return "" if has_digest(reader, digest) else "it is damaged here"
        except BlobMissing:
            return "its bytes are not here"
        except OSError as error:
            return f"it cannot be read here ({error})"

    def _look_there(self, digest: Digest, source: Callable[[], SourceBytes]) -> str:
        try:
            found = source()
            if self._quick:
                with self._blobs.open(digest) as reader:
                    length = reader.seek(0, os.SEEK_END)
                return "" if found.size in (0, length) else f"it has {length} bytes here, not {found.size}"
            with found.open() as reader:
                same = has_digest(reader, digest)
        except BlobMissing:
            return "its bytes are not here"
        except (Broken, OSError) as error:
            return f"it cannot be read in the source any more ({error})"
        return "" if same else "it is another one in the source now"

    def _look_inside(self, digest: Digest) -> str:
        hasher = DiffIdHasher(zstd=True)
        try:
            with self._blobs.open(digest) as reader:
                for chunk in read_chunks(reader):
                    hasher.update(chunk)
            return str(hasher.digest())
        except BlobMissing:
            return "not here"
        except ImageInvalid as error:
            return error.reason
