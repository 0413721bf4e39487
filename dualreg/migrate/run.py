"""Run: the tags of a plan, taken in; every step in the journal before it is done, tags last."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event

from dualreg.errors import RegistryError
from dualreg.faults import BlobDamaged, BlobMissing
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.findings import Broken
from dualreg.migrate.intake import Intake, Stopped, look
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Action, Entry
from dualreg.registry import Registry


class Existing(StrEnum):
    """What becomes of a tag that is here already, and is another image."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    FAIL = "fail"


class Status(StrEnum):
    """How it went with a tag."""

    DONE = "done"
    SAME = "same"
    SKIPPED = "skipped"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with an entry of the plan.

    Attributes:
        digest: Of the manifest that the tag points at, if it was taken in.
        read: Bytes of layers that were read for it.
    """

    entry: Entry
    status: Status
    reason: str = ""
    digest: str = ""
    read: int = 0


@dataclass
class Run:
    """Takes in a plan.

    Attributes:
        stop: Set from outside to end early; whatever is begun is finished first.
        told: Called with each outcome.
    """

    registry: Registry
    intake: Intake
    journal: Journal
    existing: Existing = Existing.SKIP
    stop: Event = field(default_factory=Event)
    told: Callable[[Outcome], None] = lambda _: None

    def all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Take in *entries*, *jobs* at a time; the outcomes are in the order of the plan."""
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = [*pool.map(self._tell, entries)]
        self.journal.write("end", stopped=self.stop.is_set())
        return outcomes

    def _tell(self, entry: Entry) -> Outcome:
        try:
            outcome = self._one(entry)
        except BaseException:
            self.stop.set()  # such as a full disk, which would stop all others too
            raise
        self.journal.write(
            "tag",
            source=entry.name,
            repository=entry.to_repository,
            tag=entry.to_tag,
            image=entry.image,
            status=outcome.status,
            reason=outcome.reason,
            digest=outcome.digest,
        )
        self.told(outcome)
        return outcome

    def _one(self, entry: Entry) -> Outcome:
        if entry.action is Action.SKIP:
            return Outcome(entry, Status.SKIPPED, entry.reason)
        try:
            return self._take(entry)
        except Stopped:
            return Outcome(entry, Status.STOPPED, "run again to go on")
        except Broken as error:
            return Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing) as error:
            return Outcome(entry, Status.FAILED, f"refused: {error}")

    def _take(self, entry: Entry) -> Outcome:
        repository = RepositoryName.parse(entry.to_repository)
        tag = Tag.parse(entry.to_tag) if entry.tag else None
        reference = tag or Digest.parse(entry.image)
        before = look(self.registry, repository, reference)
        if before and self.intake.is_same(repository, entry.image, before):
            return Outcome(entry, Status.SAME, digest=str(before.digest))
        if before and self.existing is not Existing.OVERWRITE:
            status = Status.SKIPPED if self.existing is Existing.SKIP else Status.FAILED
            return Outcome(entry, status, f"the tag is here already, as {before.digest}")
        read = self.intake.take(entry, repository, tag, before)
        after = look(self.registry, repository, reference)
        return Outcome(entry, Status.DONE, digest=str(after.digest) if after else "", read=read)
