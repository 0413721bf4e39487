"""Copying by a mirror rule: an import or an export, by the engine of ``migrate`` and ``export``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import NamedTuple

from dualreg.assembly import catalog_of, manifest_rules, writes_of
from dualreg.cli.admin import Record
from dualreg.cli.failures import FAILURES, reason_of
from dualreg.cli.migrate.space import warn_of_shortage
from dualreg.cli.progress import progress
from dualreg.cli.readonly import require_writable
from dualreg.migrate.base import ImportOptions, Survey
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.follow import Passes, foresee
from dualreg.migrate.journal import Journal, exclusive
from dualreg.migrate.mirrored import MirrorNotes
from dualreg.migrate.names import Names
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.run import Existing, Outcome, Status, journal_outcome
from dualreg.migrate.scan_options import ScanOptions
from dualreg.migrate.selection import Selection, make_plan, skip_owned, skip_pulled
from dualreg.migrate.transports import (
    RemoteCredentials,
    SourceOptions,
    TargetOptions,
    open_target,
    shortens_library,
    survey_source,
)
from dualreg.registry import Registry
from dualreg.registry.children import ManifestRules
from dualreg.settings import Settings
from dualreg.settings.mirrors import MirrorRule


class Copied(NamedTuple):
    """What a run did.

    Attributes:
        run: The name of its journal.
        outcomes: What became of each tag, but for the others.
        same: How many tags were there already.
    """

    run: str
    outcomes: Sequence[Outcome]
    same: int


@dataclass(frozen=True)
class Copy:
    """What is copied by a rule; the entries are found out when it is made.

    Attributes:
        registry: This registry; None if it does not exist, for a dry run.
        found: What the source contains; None: this registry is the source.
    """

    name: str
    rule: MirrorRule
    settings: Settings
    registry: Registry | None
    entries: Sequence[Entry]
    found: Survey | None = None

    @property
    def folder(self) -> Path:
        """The folder of the journals."""
        return self.settings.mirror_journals(self.name)

    @property
    def selected(self) -> Sequence[Entry]:
        """The entries that the rule selects."""
        return [entry for entry in self.entries if entry.action is not PlanAction.LEAVE]

    def foresee(self) -> Mapping[Entry, Outcome | None]:
        """Return what would become of each selected tag; None: it would be copied, or compared."""
        if self.found is None:
            return dict.fromkeys(self.selected)
        return foresee(self.found, self.entries, self.registry, Existing.OVERWRITE, self.folder)

    def run(self, stop: Event, record: Record, *, quiet: bool) -> Copied:
        """Copy; return what became of the tags that were not there already.

        Raises:
            click.ClickException: the registry takes no content.
        """
        assert self.registry  # noqa: S101 -- this is no dry run
        if self.found is None:
            run, outcomes = self._push(self.registry, stop, record, quiet=quiet)
        else:
            run, outcomes = self._pull(self.registry, self.found, stop, record, quiet=quiet)
        return Copied(run, outcomes, len(self.selected) - len(outcomes))

    def _pull(
        self, registry: Registry, found: Survey, stop: Event, record: Record, *, quiet: bool
    ) -> tuple[str, Sequence[Outcome]]:
        require_writable(self.settings)
        passes = Passes(
            registry, self.folder, self.rule.pull, ImportOptions(), Existing.OVERWRITE, self.rule.jobs,
            lambda _, **facts: record("mirror run", mirror=self.name, **facts),
            partial(progress, "tags", quiet=quiet),
            partial(warn_of_shortage, settings=self.settings), writes_of(self.settings).require,
        )  # fmt: skip
        run, outcomes = passes.run(found, self.entries, stop, unsettled=True)
        if passes.refusal:
            raise OSError(f"stopped: {passes.refusal}")
        return run, outcomes

    def _push(
        self, registry: Registry, stop: Event, record: Record, *, quiet: bool
    ) -> tuple[str, Sequence[Outcome]]:
        own = Journal(self.folder, registry.now(), self.rule.push)
        names = sorted({entry.repository for entry in self.entries})
        options = TargetOptions(registry, names, stop, credentials=credentials_of(self.rule))
        record("mirror run", mirror=self.name, run=own.path.stem, target=self.rule.push)
        with (
            closing(open_target(self.rule.push, options)) as target,
            progress("tags", len(self.entries), quiet=quiet) as advance,
        ):

            def note(outcome: Outcome) -> None:
                if outcome.status in (Status.DONE, Status.FAILED):
                    journal_outcome(own, outcome)
                advance(1, outcome.read)

            export = Export(registry, target, stop, note)
            export.on_blob = lambda name, blob: own.write(
                "blob", durable=False, repository=name, digest=str(blob.digest), size=blob.size
            )
            outcomes = export.export_all(self.entries, self.rule.jobs)
        return own.path.stem, [each for each in outcomes if each.status is not Status.SAME]


@dataclass(frozen=True)
class Copying:
    """Copies by rules, and notes that.

    Attributes:
        record: Writes to the audit log.
        stopping: Yields what stops a run, once it is known what there is to copy.
        quiet: Show no progress.
    """

    settings: Settings
    registry: Registry
    record: Record
    stopping: Callable[[], AbstractContextManager[Event]]
    quiet: bool = False

    def by_rule(self, name: str, rule: MirrorRule) -> Copied:
        """Copy by the rule *name*.

        Raises:
            JournalBusy: this rule is running, which is not noted.
            Exception: as of ``plan_copy`` and ``Copy.run``; it is noted.
        """
        notes, folder = MirrorNotes(catalog_of(self.registry)), self.settings.mirror_journals(name)
        with notes.exclusive(name), exclusive(folder):
            notes.begin(name)
            try:
                planned = plan_copy(name, rule, self.settings, self.registry)
                with self.stopping() as stop:
                    copied = planned.run(stop, self.record, quiet=self.quiet)
            except FAILURES as error:
                notes.fail(name, reason_of(error))
                raise
            notes.end(name, folder, copied.run, copied.outcomes)
        return copied


def plan_copy(name: str, rule: MirrorRule, settings: Settings, registry: Registry | None) -> Copy:
    """Return what the rule *name* copies now.

    Raises:
        SourceInvalid: the source is invalid.
        OSError: it does not respond, or it, or the file of the password, cannot be read.
    """
    rules = rules_of(rule, manifest_rules(settings))
    taking = registry.taking(rules) if registry else None
    names = Names(rule.include, rule.exclude, None, bool(rule.pull) and shortens_library(rule.pull))
    if rule.push:
        entries = [*entries_to_export(taking, names)] if taking else []
        return Copy(name, rule, settings, taking, entries)
    scan = ScanOptions(names, rule.latest is not None, trusting=True, jobs=rule.jobs)
    options = SourceOptions(credentials=credentials_of(rule), scan=scan, rules=rules)
    found = survey_source(rule.pull, options)
    selection = Selection(names, latest=rule.latest, library=found.default_library, prefix=rule.prefix)
    entries = skip_owned(make_plan(found, selection), settings.owned_names)
    if registry and settings.pulls_any_name:
        entries = skip_pulled(entries, registry.repositories.upstream)
    return Copy(name, rule, settings, taking, entries, found)


def rules_of(rule: MirrorRule, rules: ManifestRules) -> ManifestRules:
    """Return which manifests are taken by a rule: indexes keep their digests, if platforms are left out."""
    if not rule.platforms:
        return rules
    return replace(rules, sparse_indexes=True, platforms=rule.platforms)


def credentials_of(rule: MirrorRule) -> RemoteCredentials:
    """Return how a rule logs in.

    Raises:
        OSError: the file of the password cannot be read.
    """
    password = ""
    if rule.password_file:
        password = rule.password_file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    ca = str(rule.ca) if rule.ca else None
    return RemoteCredentials(rule.username, password, ca, rule.token_servers, rule.redirect_hosts)
