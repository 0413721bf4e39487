"""Retention deletes what no rule keeps, and nothing that changed meanwhile."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dualreg.catalog.retention import DatedTag, RetentionRule
from dualreg.errors import RepositoryUnknown
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.maintenance import retention as maintenance
from dualreg.maintenance.retention import Retained, RetentionRun
from dualreg.registry import Registry
from dualreg.registry import retention as service
from dualreg.registry.retention import NEWEST_LIMIT, check_rule, parse_patterns
from dualreg.registry.verdicts import Clause, Judge, Verdict
from tests import builders
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, push
from tests.properties.registries import fresh_registry, push_v1, push_v2

NAME, OTHER = RepositoryName("team/app"), RepositoryName("other")
NOW, DAY = datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1)
DIGEST = Digest.of(b"{}")
SIGNATURE = f"sha256-{DIGEST.hex}.sig"
ALL = RetentionRule("team/*", "*", 2)


def tag(name: str, pushed: float, pulled: float | None = None) -> DatedTag:
    """Return a tag that was pushed, and pulled, so many days ago."""
    return DatedTag(Tag(name), DIGEST, NOW - pushed * DAY, None if pulled is None else NOW - pulled * DAY)


def judged(rules: Sequence[RetentionRule], *tags: DatedTag, has_subject: bool = False) -> list[Verdict]:
    """Return the verdicts about tags, those pushed last first."""
    judge = Judge(rules, NOW)
    return [judge.judge(each, has_subject=has_subject and each.name == SIGNATURE) for each in tags]


@pytest.mark.parametrize(
    ("rules", "tags", "going"),
    [
        ([], [tag("a", 9)], ""),
        ([ALL], [tag("c", 1), tag("b", 2), tag("a", 3)], "a"),
        ([replace(ALL, tags="v*")], [tag("v2", 1), tag("x", 2), tag("v1", 3), tag("v0", 4)], "v0"),
        ([RetentionRule("*", younger_than=3 * DAY)], [tag("b", 2.9), tag("a", 3)], "a"),
        ([RetentionRule("*", pulled_within=3 * DAY)], [tag("c", 2), tag("b", 9, 2), tag("a", 9, 3)], "a"),
        ([RetentionRule("*", pulled_within=3 * DAY)], [tag("never", 2.9), tag("once", 3)], "once"),
        ([RetentionRule("*", matching=("v*", "latest"))], [tag("latest", 9), tag("v1", 9), tag("w", 0)], "w"),
        ([RetentionRule("*", "*", 1, 3 * DAY)], [tag("c", 1), tag("b", 2), tag("a", 3)], "a"),
        ([ALL, RetentionRule("*", "v*", matching=("*",))], [tag("c", 1), tag("b", 2), tag("v", 3)], ""),
        ([ALL, RetentionRule("*", "a", 1)], [tag("c", 1), tag("b", 2), tag("a", 3)], ""),
        ([RetentionRule("*", "pr-*", 1)], [tag("pr-2", 1), tag("pr-1", 2), tag("main", 3)], "pr-1"),
        ([RetentionRule("*", "*", 1)], [tag("b", -1), tag("a", 1)], "a"),
    ],
)
def test_what_goes(rules: list[RetentionRule], tags: list[DatedTag], going: str) -> None:
    """A tag that a rule is for goes, unless a clause of any such rule keeps it; others stay."""
    assert [each.tag.name for each in judged(rules, *tags) if each.goes] == going.split()


def test_tags_that_are_named_after_an_image() -> None:
    """They stay as long as that, and take no place among the newest."""
    tags = [tag(SIGNATURE, 0), tag("b", 1), tag("a", 2), tag("old", 3)]
    present, absent = judged([ALL], *tags, has_subject=True), judged([ALL], *tags)
    assert [each.tag.name for each in present if each.goes] == ["old"]
    assert [keep.clause for keep in present[0].keeps] == [Clause.SUBJECT]
    assert [each.tag.name for each in absent if each.goes] == [SIGNATURE, "old"]
    assert not judged([replace(ALL, tags="x")], tags[0])[0].goes


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        (RetentionRule("*", younger_than=5 * DAY), 3),
        (RetentionRule("*", pulled_within=5 * DAY), 4),
        (RetentionRule("*", "*", None, 5 * DAY, 5 * DAY), 4),
        (RetentionRule("*", "*", 1, 5 * DAY), None),
        (RetentionRule("*", younger_than=5 * DAY, matching=("a",)), None),
        (RetentionRule("*", younger_than=1 * DAY), None),
        (RetentionRule("*", "b", 1), None),
    ],
)
def test_when_a_tag_goes(rule: RetentionRule, days: int | None) -> None:
    """When the last clause that keeps it ends; that of the newest, or of a pattern, does not by itself."""
    (verdict,) = judged([rule], tag("a", 2, 1))
    assert verdict.goes_at == (None if days is None else NOW + days * DAY)


@pytest.mark.parametrize("text", ["", ":a", "a:", "A", "a b", "a:b:c", "a:b/c", "a?", "a@b", "é", "a" * 256])
def test_invalid_patterns(text: str) -> None:
    """They would match nothing, or are no pattern."""
    with pytest.raises(ValueError, match="invalid pattern"):
        parse_patterns(text)


@pytest.mark.parametrize(
    "rule",
    [
        RetentionRule("*"),
        RetentionRule("*", younger_than=timedelta()),
        RetentionRule("*", newest=0),
        RetentionRule("*", newest=NEWEST_LIMIT + 1),
        RetentionRule("*", matching=("a,b",)),
        RetentionRule("*", matching=("",)),
    ],
)
def test_invalid_rules(rule: RetentionRule) -> None:
    """A rule that keeps nothing would delete everything."""
    with pytest.raises(ValueError, match=r"invalid|needs a clause"):
        check_rule(rule)
    check_rule(replace(rule, newest=NEWEST_LIMIT, matching=()))


# --- against an oracle ---

NAMES = ["a", "b", "v1", "v2", "pr-1", "pr-2", SIGNATURE]
PATTERNS = st.sampled_from(["*", "v*", "pr-*", "a", "*1", "nothing"])
AGES = st.none() | st.integers(1, 9).map(lambda days: days * DAY)
RULES = st.builds(
    RetentionRule, st.just("team/*"), PATTERNS, st.none() | st.integers(1, 4), AGES, AGES,
    st.lists(PATTERNS, max_size=1).map(tuple),
)  # fmt: skip


def is_match(pattern: str, name: str) -> bool:
    """Return whether a pattern matches, by regular expressions."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name) is not None


def must_stay(
    each: DatedTag, tags: Sequence[DatedTag], rules: Sequence[RetentionRule], now: datetime
) -> bool:
    """Return whether a tag stays, of all *tags* of the repository, which has no image that one is about."""
    own = [rule for rule in rules if is_match(rule.tags, each.name)]
    for rule in own:
        alike = [one for one in tags if is_match(rule.tags, one.name) and one.name != SIGNATURE]
        newer = sum((one.pushed_at, one.name) > (each.pushed_at, each.name) for one in alike)
        used = max(filter(None, (each.pushed_at, each.pulled_at)))
        if (
            (rule.newest and each in alike and newer < rule.newest)
            or (rule.younger_than and now - each.pushed_at < rule.younger_than)
            or (rule.pulled_within and now - used < rule.pulled_within)
            or any(is_match(pattern, each.name) for pattern in rule.matching)
        ):
            return True
    return not own


DATED = st.builds(tag, st.sampled_from(NAMES), st.integers(0, 12), st.none() | st.integers(0, 12))


@given(
    st.lists(RULES, max_size=3, unique_by=lambda rule: rule.tags),
    st.lists(DATED, unique_by=lambda each: each.name),
)
def test_verdicts_are_those_of_the_oracle(rules: list[RetentionRule], tags: list[DatedTag]) -> None:
    """For any rules and tags; and when a tag is said to go, it goes, but no second before."""
    tags.sort(key=lambda each: (each.pushed_at, each.name), reverse=True)
    for verdict in judged(rules, *tags):
        assert verdict.goes is not must_stay(verdict.tag, tags, rules, NOW)
        if at := verdict.goes_at:
            assert not must_stay(verdict.tag, tags, rules, at)
            assert must_stay(verdict.tag, tags, rules, at - timedelta(microseconds=1))


@dataclass
class Site:
    """A repository in which things happen while retention runs."""

    registry: Registry
    clock: Clock
    rules: Sequence[RetentionRule]
    actions: Iterator[tuple[str, str]]
    gone: set[str] = field(default_factory=set)

    def fill(self, tags: Sequence[DatedTag]) -> None:
        """Push and pull tags at their times."""
        with self.registry.state.catalog.begin() as tx:
            row = push(tx, NAME)
            for each in tags:
                tx.tags.point(row, [each.name], MANIFEST.digest, at=each.pushed_at)
                if each.pulled_at:
                    tx.tags.record_pulls({(NAME, each.name): each.pulled_at})

    def tags(self) -> list[DatedTag]:
        """Return the tags there are."""
        repository = self.registry.retention.find(NAME)
        return [each.tag for page in self.registry.retention.judge(repository, ()) for each in page.verdicts]

    def act(self, _: int) -> bool:
        """Do what is next: it comes between a look at tags and their deletion."""
        self.clock.advance(timedelta(seconds=1))
        match next(self.actions, None):
            case ("push", name):
                with self.registry.state.catalog.begin() as tx:
                    tx.tags.point(tx.repositories.ensure(NAME).id, [Tag(name)], MANIFEST.digest)
            case ("pull", name):
                self.registry.tags.record_pull(NAME, Tag(name))
                self.registry.tags.pulls.flush()
            case ("delete", name) if name in {each.name for each in self.tags()}:
                self.registry.tags.delete(NAME, Tag(name))
            case _:
                pass
        self.before = self.tags()
        return True

    def check(self, _: RepositoryName, verdicts: Sequence[Verdict]) -> None:
        """Compare what was just deleted with what had to stay."""
        for verdict in verdicts:
            assert verdict.tag in self.before
            assert not must_stay(verdict.tag, self.before, self.rules, self.clock())
            self.gone.add(verdict.tag.name)
        assert {each.name for each in self.before} - {each.tag.name for each in verdicts} == {
            each.name for each in self.tags()
        }


ACTIONS = st.tuples(st.sampled_from(["push", "pull", "delete", "wait"]), st.sampled_from([*NAMES, "new"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(RULES, min_size=1, max_size=2, unique_by=lambda rule: rule.tags),
    st.lists(DATED, unique_by=lambda each: each.name, min_size=3),
    st.lists(ACTIONS, max_size=6),
)
@example([ALL], [tag(name, 3) for name in NAMES], [("delete", "v2"), ("wait", ""), ("push", "a")])
@example([ALL], [tag(name, 3) for name in NAMES], [("delete", "v2")])
@example([ALL], [tag(name, 3) for name in NAMES], [("wait", ""), ("wait", ""), ("pull", "pr-2")])
def test_nothing_goes_that_changes_during_a_run(
    monkeypatch: pytest.MonkeyPatch,
    rules: list[RetentionRule],
    tags: list[DatedTag],
    actions: list[tuple[str, str]],
) -> None:
    """Whatever clients do between each look and each deletion: what goes has to go right then.

    Without them, everything goes that has to, and another run finds nothing.
    """
    monkeypatch.setattr(service, "_PAGE", 3)
    monkeypatch.setattr(maintenance, "_STEP", 2)
    clock = Clock()
    with fresh_registry(clock) as registry:
        site = Site(registry, clock, rules, iter(actions))
        for rule in filter(keeps_anything, rules):
            registry.retention.add(rule)
        site.rules = registry.retention.rules()
        site.fill(tags)
        site.before = site.tags()
        run(site, dry_run=True)
        assert site.tags() == site.before
        run(site)
        site.actions = iter(())
        run(site)
        left = site.tags()
        assert all(must_stay(each, left, site.rules, clock()) for each in left)
        assert run(site).deleted == 0


def keeps_anything(rule: RetentionRule) -> bool:
    """Return whether a rule is valid."""
    return bool(rule.newest or rule.younger_than or rule.pulled_within or rule.matching)


def run(site: Site, *, dry_run: bool = False) -> Retained:
    """Run retention while things happen."""
    deleted = (lambda *_: None) if dry_run else site.check
    pace: Callable[[int], bool] = (lambda _: True) if dry_run else site.act
    return RetentionRun(site.registry, "*", dry_run, deleted, pace=pace).run()


# --- over whole registries ---


def names(registry: Registry, repository: RepositoryName = NAME) -> list[str]:
    """Return the tags of a repository."""
    return [*registry.tags.list_all(repository)]


def test_other_tags_of_an_image_stay_and_so_does_the_image(registry: Registry, clock: Clock) -> None:
    """A tag is deleted alone: of its image, of an image of an index, and of one that was pushed over V1."""
    image, chain = builders.image(builders.layer({"a": b"a"})), builders.v1_chain(builders.layer({"b": b"b"}))
    push_v1(registry, NAME, Tag("v1"), chain)
    push_v2(registry, NAME, Tag("old"), image)
    clock.advance(DAY)
    push_v2(registry, NAME, Tag("also"), image)
    index = registry.manifests.put(NAME, Tag("index"), "", builders.index(image))
    registry.retention.add(ALL)
    result = RetentionRun(registry).run()
    assert result == Retained(repositories=1, tags=4, deleted=2)
    assert names(registry) == ["also", "index"]
    for digest in (image.digest, index.manifest.digest):
        assert registry.manifests.find(NAME, digest).digest == digest
    assert [*registry.bridge.tags(NAME)] == ["also", "index"]


def test_rules_are_for_their_repositories(registry: Registry, clock: Clock) -> None:
    """And a run for those that it is given; content of upstreams is left alone, and what ends a run, too."""
    upstream = RepositoryName("team/hub")
    for name in (NAME, OTHER, upstream):
        with registry.state.catalog.begin() as tx:
            row = push(tx, name, "a", "b", "c")
            if name == upstream:
                tx.repositories.record_upstream(row, "https://hub.example")
    registry.retention.add(ALL)
    clock.advance(DAY)
    assert RetentionRun(registry, "other").run() == Retained()
    assert RetentionRun(registry, pace=lambda _: False).run() == Retained(1, 3, complete=False)
    assert RetentionRun(registry, dry_run=True).run() == Retained(1, 3, 1)
    assert RetentionRun(registry).run() == Retained(1, 3, 1)
    assert [names(registry, each) for each in (NAME, OTHER, upstream)] == [["b", "c"], [*"abc"], [*"abc"]]
    assert registry.retention.upstream(registry.retention.find(upstream)) == "https://hub.example"
    with pytest.raises(RepositoryUnknown):
        registry.retention.find(RepositoryName("none"))


def test_immutable_tags_stay(registry: Registry) -> None:
    """They count among the newest; one that becomes immutable between a look and the deletion stays, too."""
    with registry.state.catalog.begin() as tx:
        push(tx, NAME, "v1", "v2", "x", "y")
    registry.retention.add(ALL)
    registry.immutability.add("team/*:v1")
    (page,) = registry.retention.judge(registry.retention.find(NAME), registry.retention.rules())
    assert [each.tag.name for each in page.verdicts if each.goes] == ["v2"]
    assert [keep.clause for keep in page.verdicts[-1].keeps] == [Clause.IMMUTABLE]

    def bind(_: int) -> bool:
        registry.immutability.add("team/*:v2")
        return True

    assert RetentionRun(registry, pace=bind).run() == Retained(1, 4, 0, 1)
    assert names(registry) == ["v1", "v2", "x", "y"]
    assert RetentionRun(registry).run() == Retained(1, 4)


def test_signatures_stay_with_their_image_and_go_after_it(registry: Registry, clock: Clock) -> None:
    """One under a tag of its own is deleted once the repository does not have the image any longer."""
    image, signature = (builders.image(builders.layer({name: b""})) for name in ("image", "signature"))
    name = f"sha256-{image.digest.hex}.sig"
    push_v2(registry, NAME, Tag("1"), image)
    push_v2(registry, NAME, Tag(name), signature)
    registry.retention.add(RetentionRule("team/*", younger_than=DAY))
    clock.advance(2 * DAY)
    assert RetentionRun(registry).run().deleted == 1
    assert names(registry) == [name]
    registry.manifests.delete(NAME, image.digest)
    assert RetentionRun(registry).run().deleted == 1
    assert names(registry) == []
