"""Run: the tags of a plan, taken in; every step in the journal before it is done, tags last."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from threading import Event

from dualreg.errors import BlobDamaged, BlobMissing, PreconditionFailed, RegistryError
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import CurrentManifest, Importer, Stopped
from dualreg.migrate.findings import Broken
from dualreg.migrate.importer import current_manifest
from dualreg.migrate.journal import Journal
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.registry import Registry
from dualreg.remote.endpoint import RemoteError


class Existing(StrEnum):
    """What becomes of a tag that is here already, and is another image."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    NEWER = "newer"
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
        on_outcome: Called with each outcome.
        predicted: Outcomes of ``predict``, which are not looked up again.
    """

    registry: Registry
    importer: Importer
    journal: Journal
    existing: Existing = Existing.SKIP
    stop: Event = field(default_factory=Event)
    on_outcome: Callable[[Outcome], None] = lambda _: None
    predicted: Mapping[Entry, Outcome] = field(default_factory=dict)

    def import_all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Take in *entries*, *jobs* at a time; the outcomes are in the order of the plan."""
        wanted = [entry for entry in entries if entry.action is not PlanAction.LEAVE]
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = [*pool.map(self._import_one, wanted)]
        self.journal.write("end", stopped=self.stop.is_set())
        return outcomes

    def predict(self, entry: Entry) -> Outcome | None:
        """Return how it goes with an entry if its image needs not be read for that; None: it would be."""
        if refused := skipped_by_plan(entry):
            return refused
        try:
            repository, tag, reference = _place(entry)
            return self._judge(entry, repository, tag, current_manifest(self.registry, repository, reference))
        except Broken as error:
            return Outcome(entry, Status.FAILED, str(error))
        except RegistryError as error:
            return _refused(entry, error)

    def _import_one(self, entry: Entry) -> Outcome:
        """Take in one entry, and journal how it went, unless the run stops."""
        try:
            outcome = self.predicted.get(entry) or self.import_one(entry)
        except BaseException:
            self.stop.set()  # such as a full disk, which would stop all others too
            raise
        self.record(outcome)
        return outcome

    def record(self, outcome: Outcome) -> None:
        """Journal how it went with an entry, unless the run stops; and tell."""
        if outcome.status is not Status.STOPPED:
            self._journal(outcome)
        self.on_outcome(outcome)

    def _journal(self, outcome: Outcome) -> None:
        entry = outcome.entry
        self.journal.write(
            "tag",
            durable=False,
            source=entry.name,
            repository=entry.to_repository,
            tag=entry.to_tag,
            image=entry.image,
            status=outcome.status,
            reason=outcome.reason,
            digest=outcome.digest,
            bytes=outcome.read,
        )

    def _may_overwrite(self, entry: Entry, repository: RepositoryName, tag: Tag) -> bool:
        if self.existing is not Existing.NEWER or not entry.updated:
            return self.existing is Existing.OVERWRITE
        _, here = self.registry.tags.pusher(repository, tag) or (None, datetime.max.replace(tzinfo=UTC))
        # Old registries tell seconds only.
        return datetime.fromisoformat(entry.updated) >= here.replace(microsecond=0)

    def _was_deleted(self, entry: Entry, repository: RepositoryName, tag: Tag | None) -> bool:
        at = self.registry.repositories.deleted_at(repository, *filter(None, (tag, entry.image)))
        return at is not None and datetime.fromisoformat(entry.updated) <= at

    def import_one(self, entry: Entry) -> Outcome:
        """Take in one entry, or say why not."""
        if refused := skipped_by_plan(entry):
            return refused
        try:
            return self._take(entry)
        except PreconditionFailed:
            return Outcome(entry, Status.SKIPPED, "it was moved or deleted here meanwhile")
        except Stopped:
            return Outcome(entry, Status.STOPPED, "run again to go on")
        except (Broken, RemoteError) as error:
            return Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing) as error:
            return _refused(entry, error)

    def _take(self, entry: Entry) -> Outcome:
        if self.stop.is_set():
            raise Stopped
        repository, tag, reference = _place(entry)
        before = current_manifest(self.registry, repository, reference)
        if outcome := self._judge(entry, repository, tag, before):
            return outcome
        read = self.importer.import_entry(entry, repository, tag, before)
        after = current_manifest(self.registry, repository, reference)
        return Outcome(entry, Status.DONE, digest=str(after.digest) if after else "", read=read)

    def _judge(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> Outcome | None:
        """Return how it went with an entry for which nothing needs to be done, or may be.

        Args:
            before: What is here. Only that is judged: what comes after, nobody may overwrite.
        """
        if before and self.importer.is_same(repository, entry.image, before):
            if not self.importer.is_complete(repository, entry.image, before):
                return None  # what is lost here comes again, whatever may be overwritten
            return Outcome(entry, Status.SAME, digest=str(before.digest))
        if before and tag and not self._may_overwrite(entry, repository, tag):
            status = Status.FAILED if self.existing is Existing.FAIL else Status.SKIPPED
            return Outcome(entry, status, f"the tag is here already, as {before.digest}")
        if before is None and entry.updated and self._was_deleted(entry, repository, tag):
            return Outcome(entry, Status.SKIPPED, "it was deleted here since it was pushed there")
        return None


def skipped_by_plan(entry: Entry) -> Outcome | None:
    """Return how it goes with an entry that is not to be taken in."""
    return (
        None
        if entry.action is PlanAction.IMPORT
        else Outcome(entry, Status.SKIPPED, entry.reason or "by the plan")
    )


def _refused(entry: Entry, error: Exception) -> Outcome:
    return Outcome(entry, Status.FAILED, f"refused: {error}")


def _place(entry: Entry) -> tuple[RepositoryName, Tag | None, Tag | Digest]:
    """Return where an entry goes, and by what it is found there; an untagged manifest by its digest."""
    repository = RepositoryName.parse(entry.to_repository)
    if not entry.to_tag:
        return repository, None, Digest.parse(entry.image)
    tag = Tag.parse(entry.to_tag)
    return repository, tag, tag
