"""Verdicts: which tags of a repository retention rules keep, and which go; a pure function of both.

A tag that at least one rule is for goes, unless a clause of one of these rules keeps it. Tags that no rule is
for stay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from dualreg.catalog.retention import DatedTag, RetentionRule
from dualreg.image.names import Tag
from dualreg.image.tag_schema import subject_prefix
from dualreg.patterns import matches


class Clause(StrEnum):
    """What keeps a tag: the clauses of rules; without one, the image that it is about, or immutability."""

    NEWEST = "newest"
    YOUNGER_THAN = "younger-than"
    PULLED_WITHIN = "pulled-within"
    MATCHING = "matching"
    SUBJECT = "subject"
    IMMUTABLE = "immutable"


@dataclass(frozen=True, slots=True)
class Keep:
    """Why a tag stays.

    Attributes:
        rule: None if no retention rule keeps it.
        until: When the clause ceases to keep the tag, if nothing is pushed or pulled; None: it does not.
    """

    clause: Clause
    rule: RetentionRule | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a tag.

    Attributes:
        rules: Those that the tag is subject to.
        keeps: What keeps it.
    """

    tag: DatedTag
    rules: tuple[RetentionRule, ...] = ()
    keeps: tuple[Keep, ...] = ()

    @property
    def goes(self) -> bool:
        """Whether the tag is to be deleted."""
        return bool(self.rules) and not self.keeps

    @property
    def goes_at(self) -> datetime | None:
        """When the tag goes if nothing is pushed or pulled; None: it does not, or it goes now."""
        times = [keep.until for keep in self.keeps]
        known = [time for time in times if time is not None]
        return max(known) if known and len(known) == len(times) else None


@dataclass
class Judge:
    """Judges the tags of one repository, those pushed last first; its memory does not depend on their number.

    A tag that is named after the digest of an image, as signatures are, stays as long as the image. It never
    counts as one of the newest.

    Attributes:
        rules: Those for the repository.
        now: The time at which ages count.
        newest: The tags that the clause keeps, of all rules. What goes does so because these are there.
    """

    rules: Sequence[RetentionRule]
    now: datetime
    newest: set[Tag] = field(default_factory=set)
    _counts: dict[RetentionRule, int] = field(default_factory=dict)

    @property
    def counts(self) -> Sequence[int]:
        """How many tags the clause ``newest`` of each rule keeps so far."""
        return [self._counts.get(rule, 0) for rule in self.rules]

    def resume(self, counts: Sequence[int]) -> None:
        """Go on where another judge with the same rules had these ``counts``."""
        self._counts = dict(zip(self.rules, counts, strict=False))

    def judge(self, tag: DatedTag, *, has_subject: bool = False, is_immutable: bool = False) -> Verdict:
        """Return what becomes of the next tag.

        Args:
            has_subject: Whether the repository has the image that a tag is named after.
            is_immutable: Whether the tag may not be deleted. It counts as one of the newest all the same.
        """
        rules = tuple(rule for rule in self.rules if matches(rule.tags, tag.name))
        if rules and has_subject:
            return Verdict(tag, rules, (Keep(Clause.SUBJECT),))
        keeps = [keep for rule in rules for keep in self._keeps(rule, tag)]
        return Verdict(tag, rules, (*keeps, *([Keep(Clause.IMMUTABLE)] if rules and is_immutable else [])))

    def _keeps(self, rule: RetentionRule, tag: DatedTag) -> Sequence[Keep]:
        keeps = []
        if rule.newest is not None and self._is_new(rule, tag):
            keeps.append(Keep(Clause.NEWEST, rule))
        if rule.younger_than is not None and (until := tag.pushed_at + rule.younger_than) > self.now:
            keeps.append(Keep(Clause.YOUNGER_THAN, rule, until))
        if rule.pulled_within is not None and (until := used_at(tag) + rule.pulled_within) > self.now:
            keeps.append(Keep(Clause.PULLED_WITHIN, rule, until))
        if any(matches(pattern, tag.name) for pattern in rule.matching):
            keeps.append(Keep(Clause.MATCHING, rule))
        return keeps

    def _is_new(self, rule: RetentionRule, tag: DatedTag) -> bool:
        """Count a tag; return whether it is one of the newest."""
        count = self._counts.get(rule, 0)
        if count == rule.newest or subject_prefix(tag.name):
            return False
        self._counts[rule] = count + 1
        self.newest.add(tag.name)
        return True


def used_at(tag: DatedTag) -> datetime:
    """Return when a tag was last pulled or pushed: what was just pushed has not been pulled yet."""
    return max(tag.pushed_at, tag.pulled_at or tag.pushed_at)
