"""A run: imports the tags of a plan; every step is journaled before it is made, and tags are set last."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from dualreg.errors import BlobDamaged, BlobMissing, PreconditionFailed, RegistryError, TagImmutable
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.base import CurrentManifest, Importer, current_manifest
from dualreg.migrate.findings import Broken
from dualreg.migrate.journal import Journal
from dualreg.migrate.parallel import pooled
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.presence import Presence
from dualreg.migrate.stopping import Stop, Stopped
from dualreg.registry import Registry
from dualreg.remote.endpoint import RemoteError

#: Entries that a thread imports together, at least: their repositories are small.
_TOGETHER = 64


class Existing(StrEnum):
    """What to do with a tag that exists in this registry and is another image."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    NEWER = "newer"
    FAIL = "fail"


class Status(StrEnum):
    """What became of a tag."""

    DONE = "done"
    SAME = "same"
    SKIPPED = "skipped"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry of the plan.

    Attributes:
        digest: The manifest that the tag points at, if it was imported.
        read: How many bytes were read from the source.
        converted: Of an export: the manifest of the tag in this registry, if *digest* was made of it.
        note: Of an export: who cannot read the tag at the target, although it is complete; empty: nobody.
    """

    entry: Entry
    status: Status
    reason: str = ""
    digest: str = ""
    read: int = 0
    converted: str = ""
    note: str = ""


@dataclass
class Run:
    """Imports the entries of a plan.

    Attributes:
        existing: What to do with tags that exist and are another image.
        stop: Says whether to go on.
        on_outcome: Called with each outcome.
        predicted: Outcomes that ``predict`` returned; these entries are not looked at again.
    """

    registry: Registry
    importer: Importer
    journal: Journal
    existing: Existing = Existing.SKIP
    stop: Stop = field(default_factory=Stop)
    on_outcome: Callable[[Outcome], None] = lambda _: None
    predicted: Mapping[Entry, Outcome] = field(default_factory=dict)
    _new: set[Entry] = field(default_factory=set)
    _searched: set[str] = field(default_factory=set)

    def import_all(self, entries: Iterable[Entry], jobs: int) -> Sequence[Outcome]:
        """Import *entries*, *jobs* at a time; return the outcomes in the order of the plan.

        Entries that were not selected have none.
        """
        wanted = [entry for entry in entries if entry.action is not PlanAction.LEAVE]
        with ThreadPoolExecutor(jobs) as pool:
            own = by_repository(wanted)
            self._find_new(own)
            together = pooled(pool, self._import_new, _in_steps(own))
            done = {entry: outcome for step in together for entry, outcome in step.items()}
            left = [entry for entry in wanted if entry not in done]
            done |= zip(left, pooled(pool, self._import_one, left), strict=True)
        outcomes = [done[entry] for entry in wanted]
        self.journal.write("end", stopped=self.stop.is_set())
        return outcomes

    def foresee(self, entries: Iterable[Entry]) -> dict[Entry, Outcome | None]:
        """Return the outcome of each entry that is selected, without importing it, as ``predict``."""
        wanted = [entry for entry in entries if entry.action is not PlanAction.LEAVE]
        self._find_new(by_repository(wanted))
        return {entry: None if entry in self._new else self.predict(entry) for entry in wanted}

    def _find_new(self, entries: Mapping[str, Sequence[Entry]]) -> None:
        """Find those entries, given by repository, that are to be imported and whose tags never existed."""
        names = [RepositoryName(name) for name in entries if name not in self._searched]
        used = self.registry.repositories.used(names)
        self._searched.update(names)
        for name in names:
            own = [each for each in entries[name] if _is_named(each)]
            if name in used:
                tags = {*self.registry.tags.list_all(name)}
                deleted = self.registry.repositories.deletions(name).times
                own = [] if deleted else [each for each in own if each.to_tag not in tags]
            self._new.update(own)

    def _import_new(self, entries: Sequence[Entry]) -> Mapping[Entry, Outcome]:
        """Import those of *entries* that are new, together; return and record their outcomes."""
        done = dict[Entry, Outcome]()
        new = [entry for entry in entries if entry in self._new and entry not in self.predicted]
        try:
            for entry, (digest, read) in self.importer.import_new(new):
                done[entry] = Outcome(entry, Status.DONE, digest=_text_of(digest, entry), read=read)
                self.record(done[entry])
        except BaseException:
            self.stop.set()
            raise
        return done

    def predict(self, entry: Entry) -> Outcome | None:
        """Return the outcome of an entry, without importing it; None if it would be imported."""
        if refused := skipped_by_plan(entry):
            return refused
        try:
            repository, tag, reference = _destination(entry)
            before = current_manifest(self.registry, repository, reference)
            return self._settled(entry, repository, tag, before)
        except Broken as error:
            return Outcome(entry, Status.FAILED, str(error))
        except RegistryError as error:
            return _refused(entry, error)

    def _import_one(self, entry: Entry) -> Outcome:
        """Import one entry and record the outcome."""
        try:
            outcome = self.predicted.get(entry) or self.import_one(entry)
        except BaseException:
            self.stop.set()  # for instance a full disk, on which all others would fail too
            raise
        self.record(outcome)
        return outcome

    def record(self, outcome: Outcome) -> None:
        """Journal the outcome of an entry, unless the run stopped before it; call ``on_outcome``."""
        if outcome.status is not Status.STOPPED:
            journal_outcome(self.journal, outcome)
        self.on_outcome(outcome)

    def _may_overwrite(self, entry: Entry, repository: RepositoryName, tag: Tag) -> bool:
        if self.existing is not Existing.NEWER or not entry.updated:
            return self.existing is Existing.OVERWRITE
        _, current = self.registry.tags.pusher(repository, tag) or (None, datetime.max.replace(tzinfo=UTC))
        # Old registries kept seconds only.
        return datetime.fromisoformat(entry.updated) >= current.replace(microsecond=0)

    def _was_deleted(self, entry: Entry, repository: RepositoryName, tag: Tag | None) -> bool:
        at = self.registry.repositories.deleted_at(repository, *filter(None, (tag, entry.image)))
        return at is not None and datetime.fromisoformat(entry.updated) <= at

    def import_one(self, entry: Entry) -> Outcome:
        """Import one entry; return the outcome, also if it failed."""
        if refused := skipped_by_plan(entry):
            return refused
        try:
            return self._import(entry)
        except (PreconditionFailed, TagImmutable) as error:
            return self._overtaken(entry, error)
        except Stopped as error:
            return Outcome(entry, Status.STOPPED, f"{str(error) or 'stopped'}; run again to continue")
        except (Broken, RemoteError) as error:
            return Outcome(entry, Status.FAILED, str(error))
        except (RegistryError, BlobDamaged, BlobMissing) as error:
            return _refused(entry, error)

    def _overtaken(self, entry: Entry, error: RegistryError | None = None) -> Outcome:
        """Return the outcome of an entry whose tag was changed during its import, perhaps to the same."""
        found = self.predict(entry)
        if found and found.status is Status.SAME:
            return found  # another process has imported it
        moved = "the tag was moved or deleted in this registry meanwhile"
        return Outcome(entry, Status.SKIPPED, str(error) if isinstance(error, TagImmutable) else moved)

    def _import(self, entry: Entry) -> Outcome:
        self.stop.check()
        repository, tag, reference = _destination(entry)
        before = current_manifest(self.registry, repository, reference)
        if before and entry in self._new:
            return self._overtaken(entry)
        if outcome := self._settled(entry, repository, tag, before):
            return outcome
        read = self.importer.import_entry(entry, repository, tag, before)
        after = current_manifest(self.registry, repository, reference)
        if after:
            Presence(self.registry).restore(repository, after.digest)
        return Outcome(entry, Status.DONE, digest=str(after.digest) if after else "", read=read)

    def _settled(
        self, entry: Entry, repository: RepositoryName, tag: Tag | None, before: CurrentManifest | None
    ) -> Outcome | None:
        """Return the outcome of an entry that need not or must not be imported; None if it is imported.

        Args:
            before: What the tag points at now. A push after this makes the import fail, not the push.
        """
        if before and self.importer.is_same(repository, entry.image, before):
            if not self.importer.is_complete(entry, repository, before):
                return None  # lost blobs are imported again, whatever may be overwritten
            return Outcome(entry, Status.SAME, digest=_text_of(before.digest, entry))
        if before and tag and not self._may_overwrite(entry, repository, tag):
            status = Status.FAILED if self.existing is Existing.FAIL else Status.SKIPPED
            return Outcome(entry, status, f"tag already exists and points to {before.digest}")
        if before and tag and (rule := self.registry.immutability.rule_of(repository, tag)):
            error = TagImmutable(repository=repository, tag=tag, rule=rule)
            return Outcome(entry, Status.SKIPPED, str(error))
        if before is None and entry.updated and self._was_deleted(entry, repository, tag):
            return Outcome(
                entry, Status.SKIPPED, "deleted from this registry after it was pushed to the source"
            )
        return None


def journal_outcome(journal: Journal, outcome: Outcome) -> None:
    """Journal what became of an entry."""
    entry = outcome.entry
    journal.write(
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


def by_repository(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return entries by the repository that they are imported to."""
    found = dict[str, list[Entry]]()
    for entry in entries:
        found.setdefault(entry.to_repository, []).append(entry)
    return found


def _in_steps(entries: Mapping[str, list[Entry]]) -> Iterator[list[Entry]]:
    """Yield entries, several repositories at a time if they are small.

    None is in two steps: what threads import together is in different repositories.
    """
    step = list[Entry]()
    for own in entries.values():
        step += own
        if len(step) >= _TOGETHER:
            yield step
            step = []
    if step:
        yield step


def skipped_by_plan(entry: Entry) -> Outcome | None:
    """Return the outcome of an entry that the plan does not import; None if it does."""
    return (
        None
        if entry.action is PlanAction.IMPORT
        else Outcome(entry, Status.SKIPPED, entry.reason or "skipped by the plan")
    )


def _is_named(entry: Entry) -> bool:
    """Return whether an entry is to be imported with a tag, and both names are allowed."""
    if entry.action is not PlanAction.IMPORT or not entry.to_tag:
        return False
    try:
        _destination(entry)
    except RegistryError:
        return False
    return True


def _text_of(digest: Digest, entry: Entry) -> str:
    """Return a digest as text; that which the entry has, if it is the same: there may be millions."""
    text = str(digest)
    return entry.image if text == entry.image else text


def _refused(entry: Entry, error: Exception) -> Outcome:
    return Outcome(entry, Status.FAILED, f"refused: {error}")


def _destination(entry: Entry) -> tuple[RepositoryName, Tag | None, Tag | Digest]:
    """Return the repository and tag of an entry, and its reference: the tag, or the digest without one."""
    repository = RepositoryName.parse(entry.to_repository)
    if not entry.to_tag:
        return repository, None, Digest.parse(entry.image)
    tag = Tag.parse(entry.to_tag)
    return repository, tag, tag
