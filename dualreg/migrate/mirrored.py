"""What mirror rules have copied: the last run of each, and counts of all of them, noted in the catalog."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from dualreg.catalog.database import Catalog
from dualreg.catalog.leading import held, is_held
from dualreg.catalog.notes import Note
from dualreg.migrate import journal
from dualreg.migrate.run import Outcome, Status

#: How many journals of a rule are kept.
KEPT_RUNS = 50


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What the runs of a rule have done.

    Attributes:
        began, ended, succeeded: When the last run began, when one last ended, and when one last ended without
            failures; ISO 8601, empty: never.
        run: The name of the last journal; empty: there was nothing to do.
        error: Why the last run failed as a whole; empty: it did not.
        runs, images, blobs, bytes, failures: All together: runs, tags that were copied, blobs that came to a
            repository, bytes that were transferred, tags that could not be copied and runs that failed.
    """

    began: str = ""
    ended: str = ""
    succeeded: str = ""
    run: str = ""
    error: str = ""
    runs: int = 0
    images: int = 0
    blobs: int = 0
    bytes: int = 0
    failures: int = 0

    @property
    def begun(self) -> datetime | None:
        """When the last run began; None: never."""
        return datetime.fromisoformat(self.began) if self.began else None

    @property
    def is_unfinished(self) -> bool:
        """Whether the last run was stopped or killed, or goes on."""
        return self.ended < self.began


@dataclass(frozen=True, slots=True)
class MirrorNotes:
    """The notes of all rules, for all instances that share the catalog."""

    catalog: Catalog

    def read(self) -> Mapping[str, Mirrored]:
        """Return what each rule that ever ran has done, by name."""
        with self.catalog.read() as tx:
            return _parse(tx.notes.read(Note.MIRRORS) or "{}")

    def of(self, name: str) -> Mirrored:
        """Return what a rule has done."""
        return self.read().get(name, Mirrored())

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Keep other processes, those of other instances too, from copying by a rule until the block ends.

        Raises:
            JournalBusy: one does.
        """
        with held(self.catalog, _lock(name)) as is_mine:
            if not is_mine:
                raise journal.JournalBusy(f"another process copies by the mirror rule {name}")
            yield

    def is_running(self, name: str) -> bool:
        """Return whether a process copies by a rule."""
        return is_held(self.catalog, _lock(name))

    def settle(self, name: str, done: Mirrored) -> tuple[Mirrored, bool]:
        """Return what a rule has done by now, and whether a process copies by it.

        If none does, a run that has not ended was interrupted.

        Args:
            done: As it was when it was read.
        """
        while done.is_unfinished and not self.is_running(name):
            now = self.of(name)
            if now == done:
                return done, False
            done = now  # it ended meanwhile, or another run has begun
        return done, done.is_unfinished

    def begin(self, name: str) -> None:
        """Note that a rule is run now."""
        self._change(name, began=self._now(), runs=1)

    def fail(self, name: str, reason: str) -> None:
        """Note that the run has failed as a whole."""
        self._change(name, run="", error=reason, failures=1, ended=self._now())

    def end(self, name: str, folder: Path, run: str, outcomes: Sequence[Outcome]) -> None:
        """Note what a run, with its journal in *folder*, has done."""
        counts = Counter(each.status for each in outcomes)
        failures = counts[Status.FAILED] + counts[Status.SKIPPED]
        ended = {} if counts[Status.STOPPED] else {"ended": self._now()}
        succeeded = {} if failures or not ended else {"succeeded": ended["ended"]}
        written = run in journal.runs(folder)
        lines = journal.read(folder, run) if written else ()
        self._change(
            name,
            run=run if written else "",
            error="",
            images=counts[Status.DONE],
            blobs=sum(line["event"] == "blob" for line in lines),
            bytes=sum(each.read for each in outcomes),
            failures=failures,
            **ended,
            **succeeded,
        )
        for old in journal.runs(folder)[:-KEPT_RUNS]:
            (folder / f"{old}.jsonl").unlink()

    def _now(self) -> str:
        return self.catalog.now().isoformat(timespec="microseconds")

    def _change(self, name: str, **facts: str | int) -> None:
        """Replace texts, and add to numbers."""
        with self.catalog.begin() as tx:
            known = json.loads(tx.notes.claim(Note.MIRRORS, "{}"))
            old = asdict(Mirrored()) | known.get(name, {})
            new = {key: old[key] + each if isinstance(each, int) else each for key, each in facts.items()}
            tx.notes.write(Note.MIRRORS, json.dumps(known | {name: old | new}))


def _lock(name: str) -> str:
    return f"mirror-{name}"


def _parse(text: str) -> Mapping[str, Mirrored]:
    return {name: Mirrored(**facts) for name, facts in json.loads(text).items()}
