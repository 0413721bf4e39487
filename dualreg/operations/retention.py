"""Rules that say which tags stay, and what they mean for the tags of a repository."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from dualreg.catalog.retention import RetentionRule
from dualreg.errors import PageInvalid, TagUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.places import format_place, parse_place
from dualreg.operations.session import Group, page_size
from dualreg.registry.retention import JudgedUntil, parse_patterns
from dualreg.registry.verdicts import Clause, Keep, Verdict
from dualreg.settings.values import format_duration

#: Pages of tags that one call looks through for one of them.
_SEARCHED, _SEARCH_SIZE = 10, 500
#: How many of the newest tags each rule keeps so far.
_COUNTS = re.compile(r"(?:~[0-9]{1,9})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TagVerdict:
    """What becomes of a tag.

    Attributes:
        stays: Whether a rule, or something else, keeps it now, or no rule is for it.
        until: When the tag goes if nothing is pushed or pulled; null: it does not, or it goes now.
        rules: Those that are for it.
        keeps: What keeps it.
    """

    tag: Tag
    digest: Digest
    pushed_at: datetime
    pulled_at: datetime | None
    stays: bool
    until: datetime | None
    rules: tuple[RetentionRule, ...]
    keeps: tuple[Keep, ...]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of tags of a repository, those pushed last first.

    Attributes:
        upstream: The registry that the content comes from, so that no rules apply; null: they do.
        next: What to give as *after* for the next page; null: this is the last one.
    """

    upstream: str | None
    rows: Sequence[TagVerdict]
    next: str | None = None


@dataclass(frozen=True)
class RetentionRules(Group):
    """Retention rules."""

    def add(
        self,
        pattern: str,
        *,
        newest: int | None = None,
        younger_than: timedelta | None = None,
        pulled_within: timedelta | None = None,
        matching: tuple[str, ...] = (),
    ) -> RetentionRule:
        """Add a rule: tags that it is for go, unless one of its clauses keeps them.

        Args:
            pattern: Of REPOSITORY[:TAG], in which * matches anything.
            newest: Keep so many tags of each repository, those pushed last.
            younger_than: Keep tags pushed within that time.
            pulled_within: Keep tags pulled within that time.
            matching: Keep tags that one of these patterns matches.

        Raises:
            ValueError: the rule is invalid, or there is one for the pattern.
        """
        rule = RetentionRule(*parse_patterns(pattern), newest, younger_than, pulled_within, matching)
        self.session.registry.retention.add(rule)
        self.session.record("retention add", rule=rule_text(rule))
        return rule

    def remove(self, pattern: str) -> None:
        """Remove a rule.

        Args:
            pattern: That of the rule.

        Raises:
            ValueError: there is none.
        """
        repositories, tags = parse_patterns(pattern)
        self.session.registry.retention.remove(repositories, tags)
        self.session.record("retention remove", pattern=f"{repositories}:{tags}")

    def list(self) -> Sequence[RetentionRule]:
        """List the retention rules, by their patterns."""
        return self.session.registry.retention.rules()

    def explain(
        self, repository: RepositoryName, tag: Tag | None = None, *, n: int = 100, after: str | None = None
    ) -> Verdicts:
        """Explain which rules keep or delete tags, and until when they stay.

        Args:
            tag: Only this one. The page that has it is the last one; pages before are empty.
            n: The length of the page.
            after: The end of the page before.

        Raises:
            RepositoryUnknown, TagUnknown, PageInvalid.
        """
        service = self.session.registry.retention
        found = service.find(repository)
        upstream = service.upstream(found)
        rules, size = () if upstream else service.rules(), _SEARCH_SIZE if tag else page_size(n)
        start, judged = _place(after), None
        pages = service.judge(found, rules, after=start, size=size)
        for judged in islice(pages, _SEARCHED if tag else 1):
            rows = [_described(each) for each in judged.verdicts if tag in (None, each.tag.name)]
            if rows and tag:
                return Verdicts(upstream, rows)
        end = _end_of(judged.verdicts[-1], judged.counts) if judged else None
        if judged is None or len(judged.verdicts) < size:
            end = None
        if tag and end is None:
            raise TagUnknown(tag=tag)
        return Verdicts(upstream, rows if judged else (), end)


def rule_pattern(rule: RetentionRule) -> str:
    """Return what a rule is for, as ``REPOSITORY:TAG``."""
    return f"{rule.repositories}:{rule.tags}"


def rule_text(rule: RetentionRule) -> str:
    """Return a rule in one line: what it is for, and its clauses."""
    return f"{rule_pattern(rule)} ({', '.join(rule_clauses(rule))})"


def rule_clauses(rule: RetentionRule) -> Sequence[str]:
    """Return the clauses of a rule as they were given."""
    given = {
        Clause.NEWEST: rule.newest, Clause.YOUNGER_THAN: rule.younger_than,
        Clause.PULLED_WITHIN: rule.pulled_within, Clause.MATCHING: rule.matching,
    }  # fmt: skip
    return [clause_text(rule, clause) for clause, value in given.items() if value]


def clause_text(rule: RetentionRule, clause: Clause) -> str:
    """Return one clause of a rule as it was given."""
    match clause:
        case Clause.YOUNGER_THAN:
            value = format_duration(rule.younger_than or timedelta())
        case Clause.PULLED_WITHIN:
            value = format_duration(rule.pulled_within or timedelta())
        case Clause.MATCHING:
            value = " ".join(rule.matching)
        case _:
            value = f"{rule.newest}"
    return f"{clause} {value}"


def _described(verdict: Verdict) -> TagVerdict:
    return TagVerdict(*verdict.tag, not verdict.goes, verdict.goes_at, verdict.rules, verdict.keeps)


def _end_of(last: Verdict, counts: Sequence[int]) -> str:
    place = format_place(last.tag.pushed_at, last.tag.name)
    return "~".join((place, *map(str, counts)))


def _place(text: str | None) -> JudgedUntil | None:
    """Return the place that ``_end_of`` wrote.

    Raises:
        PageInvalid: it is malformed.
    """
    if text is None:
        return None
    place, tilde, rest = text.partition("~")
    found = parse_place(place, Tag.parse)
    if found is None or _COUNTS.fullmatch(tilde + rest) is None:
        raise PageInvalid(after=text[:200])
    return JudgedUntil(*found, [int(each) for each in rest.split("~") if each])
