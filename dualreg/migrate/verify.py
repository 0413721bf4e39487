"""Verification: this registry's content compared with the source, tag by tag, without using any journal."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from dualreg.catalog.rows import BlobRow
from dualreg.errors import BlobDamaged, BlobMissing, ImageInvalid, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.layer import empty_layer, read_diff_id
from dualreg.migrate.base import Comparison
from dualreg.migrate.findings import Broken
from dualreg.migrate.parallel import in_parallel
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.single_flight import Checks, SingleFlight
from dualreg.migrate.sources.base import SourceBytes
from dualreg.migrate.transfer import has_digest
from dualreg.registry.blobs import Blobs
from dualreg.remote.endpoint import RemoteError
from dualreg.storage.base import read_chunks

#: The problem with a blob that the catalog lists and the store lacks.
_MISSING = "missing from the store"
#: What reading damaged documents of this registry raises: ValueError if one is no JSON any more.
_DAMAGE = (RegistryError, BlobMissing, BlobDamaged, OSError, ValueError)
#: The kinds of checks of a blob: in this registry, and in the source.
_STORED, _IN_SOURCE = 1, 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """The problems found with the tag of an entry; empty if it is as in the source."""

    entry: Entry
    problems: tuple[str, ...]


def verify(comparison: Comparison, entries: Iterable[Entry], jobs: int) -> Iterator[Verdict]:
    """Return the verdicts on all entries with the action import, in the order of the plan."""

    def judge(entry: Entry) -> Verdict:
        try:
            return Verdict(entry, tuple(comparison.problems(entry)))
        except (Broken, RemoteError) as error:
            return Verdict(entry, (str(error),))
        except _DAMAGE as error:
            return Verdict(entry, (f"cannot be read from this registry ({error})",))

    wanted = [entry for entry in entries if entry.action is PlanAction.IMPORT]
    return in_parallel(judge, wanted, jobs)


class BlobComparison:
    """Reads and compares blobs of this registry and of a source, each once.

    Attributes:
        quick: Whether sizes are compared instead of contents.
    """

    def __init__(self, blobs: Blobs, *, quick: bool) -> None:
        self.quick = quick
        self._blobs = blobs
        self._checks = Checks()
        self._diff_ids = SingleFlight[Digest, str](None)  # for each, a layer is read

    def problems(self, name: str, digest: Digest, source: Callable[[], SourceBytes]) -> Iterator[str]:
        """Yield what is wrong with a blob in this registry and in the source, where it is called *name*."""
        if not self.quick and (problem := self.stored_problem(digest)):
            yield f"{name}: {problem}"
        key = digest.packed if name == str(digest) else (name, digest.packed)  # ids are of one repository
        if problem := self._checks.get(key, _IN_SOURCE, partial(self._compare_source, digest, source)):
            yield f"{name}: {problem}"

    def derived_problems(self, blobs: Iterable[BlobRow]) -> Iterator[str]:
        """Yield what is wrong with documents that this registry derived, each with its digest."""
        for blob in blobs:
            if problem := self.stored_problem(blob.digest):
                yield f"{blob.digest}: {problem}; the next run derives it again"

    def stored_problem(self, digest: Digest, size: int | None = None) -> str:
        """Return what is wrong with a blob in this registry; empty if nothing is.

        Args:
            size: The expected size; None: the blob is a document, which is read even if *quick*.
        """
        if digest == empty_layer().digest:
            return ""  # it need not be in the store
        return self._checks.get(digest.packed, _STORED, partial(self._check_stored, digest, size))

    def diff_id(self, digest: Digest) -> str:
        """Return the diff ID of a layer in this registry, or why it has none."""
        return self._diff_ids.get(digest, partial(self._read_diff_id, digest))

    def _check_stored(self, digest: Digest, size: int | None) -> str:
        try:
            with self._blobs.open(digest) as reader:
                if self.quick and size is not None:
                    length = reader.seek(0, os.SEEK_END)
                    return "" if size == length else f"has {length} bytes, expected {size}"
                return "" if has_digest(reader, digest) else "damaged in this registry"
        except BlobMissing:
            return _MISSING
        except OSError as error:
            return f"cannot be read from this registry ({error})"

    def _compare_source(self, digest: Digest, source: Callable[[], SourceBytes]) -> str:
        try:
            found = source()
            if self.quick:
                with self._blobs.open(digest) as reader:
                    length = reader.seek(0, os.SEEK_END)
                same = found.known_size in (None, length)
                return "" if same else f"has {length} bytes, but {found.size} in the source"
            with found.open() as reader:
                same = has_digest(reader, digest)
        except BlobMissing:
            return _MISSING
        except (Broken, OSError) as error:
            return f"cannot be read from the source ({error})"
        return "" if same else "differs from the source"

    def _read_diff_id(self, digest: Digest) -> str:
        try:
            with self._blobs.open(digest) as reader:
                return str(read_diff_id(read_chunks(reader), zstd=True)[0])
        except BlobMissing:
            return _MISSING
        except ImageInvalid as error:
            return error.reason
