"""Which tags are selected, under which names, and what keeps some of them out: a row a rule."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from dualreg.migrate.findings import Broken, Finding, FindingKind
from dualreg.migrate.names import Library, Names
from dualreg.migrate.plan import Entry, PlanAction
from dualreg.migrate.selection import Selection, lost_tags, make_plan, unmatched
from dualreg.migrate.sources.base import SourceTag


@dataclass
class FakeSurvey:
    """As much of a survey as a selection asks.

    Attributes:
        broken: Images that cannot be imported.
    """

    tags: list[SourceTag]
    findings: list[Finding] = field(default_factory=list)
    broken: Collection[str] = ()

    def check(self, repository: str, image: str) -> None:
        """Raise Broken for images that are broken."""
        if image in self.broken:
            raise Broken(FindingKind.NO_LAYER, image, f"{repository} needs it")


def tag(name: str, year: int | None = 2020, *, image: str = "", about: str = "") -> SourceTag:
    """Return ``repository:tag``, or ``repository@image``, of the first day of a year."""
    repository, mark, rest = name.partition("@") if "@" in name else name.rpartition(":")
    updated = None if year is None else datetime(year, 1, 1, tzinfo=UTC)
    named = rest if mark == ":" else ""
    return SourceTag(repository, named, image or (rest if mark == "@" else f"image of {name}"), updated,
                     frozenset({about} if about else ()))  # fmt: skip


SIGNED = "sha256:" + "a" * 64
TAGS = [
    tag("library/short:1", 2014),
    tag("team/app:1", 2014),
    tag("team/app:2", 2016),
    tag("team/app:3", 2018),
    tag("team/app@" + "f" * 64, 2018),
    tag("team/other:1", 2016),
    tag("team/signed:1", 2016, image=SIGNED),
    tag("team/signed:sha256-aa.sig", 2016, image="signature", about=SIGNED),
    tag("team/signed@attestation", 2016, about="signature"),
    tag("team/undated:1", None),
]
ORDINARY = {
    "library/short:1", "team/app:1", "team/app:2", "team/app:3", "team/other:1", "team/signed:1",
    "team/signed:sha256-aa.sig", "team/signed@attestation", "team/undated:1",
}  # fmt: skip


def planned(tags: list[SourceTag] = TAGS, *, broken: Collection[str] = (), **options: Any) -> list[Entry]:
    """Return the plan for a selection."""
    return make_plan(FakeSurvey(tags, broken=broken), Selection(**options))  # type: ignore[arg-type]


def names(entries: list[Entry], action: PlanAction = PlanAction.IMPORT) -> set[str]:
    """Return the names, in the source, of what the plan does so with."""
    return {entry.name for entry in entries if entry.action is action}


def day(year: int, month: int = 1) -> datetime:
    """Return the first day of a month."""
    return datetime(year, month, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "selected"),
    [
        ({}, ORDINARY),
        ({"names": Names(include=("team/app",))}, {"team/app:1", "team/app:2", "team/app:3"}),
        ({"names": Names(include=("*:1",))}, {name for name in ORDINARY if name.endswith(":1")}
         | {"team/signed:sha256-aa.sig", "team/signed@attestation"}),
        ({"names": Names(include=("team/app:2", "team/o*"))}, {"team/app:2", "team/other:1"}),
        ({"names": Names(include=("nothing",))}, set()),
        ({"names": Names(exclude=("team/*",))}, {"library/short:1"}),
        ({"names": Names(include=("team/app",), exclude=("*:2",))}, {"team/app:1", "team/app:3"}),
        ({"names": Names(listed=frozenset({"team/app:1", "team/other"}))}, {"team/app:1", "team/other:1"}),
        ({"names": Names(listed=frozenset({"team/app"}), exclude=("*:1",))}, {"team/app:2", "team/app:3"}),
        ({"names": Names(listed=frozenset())}, set()),
        ({"names": Names(include=("short",))}, set()),
        ({"names": Names(include=("short",), shortened=True)}, {"library/short:1"}),
        ({"names": Names(listed=frozenset({"short:1"}), shortened=True)}, {"library/short:1"}),
        ({"names": Names(include=("library/short",), shortened=True)}, {"library/short:1"}),
        ({"latest": 1, "names": Names(include=("team/app",))}, {"team/app:3"}),
        ({"latest": 2, "names": Names(include=("team/app",))}, {"team/app:2", "team/app:3"}),
        ({"latest": 1, "names": Names(include=("team/app",), exclude=("*:3",))}, {"team/app:2"}),
        ({"since": day(2016), "names": Names(include=("team/app",))}, {"team/app:2", "team/app:3"}),
        ({"since": day(2016, 2), "names": Names(include=("team/app",))}, {"team/app:3"}),
        ({"since": day(2016), "latest": 1, "names": Names(include=("team/*",), exclude=("*/s*", "*/u*"))},
         {"team/app:3", "team/other:1"}),
        ({"since": day(2030)}, set()),
    ],
)  # fmt: skip
def test_tags_are_selected(options: dict[str, Any], selected: set[str]) -> None:
    """Names, lists and dates select tags; others are left, with the reason."""
    plan = planned(**options)
    assert names(plan) == selected
    left = names(plan, PlanAction.LEAVE) | names(plan, PlanAction.SKIP)
    assert left == {each.name for each in TAGS} - selected
    assert all(bool(entry.reason) == (entry.action is not PlanAction.IMPORT) for entry in plan)


@pytest.mark.parametrize(
    ("options", "along"),
    [
        ({"names": Names(include=("team/signed:1",))},
         {"team/signed:sha256-aa.sig", "team/signed@attestation"}),
        ({"names": Names(include=("team/signed:1",), exclude=("*:*.sig",))}, set()),
        ({"names": Names(include=("team/signed:sha256-aa.sig",))},
         {"team/signed:sha256-aa.sig", "team/signed@attestation"}),
        ({"latest": 1, "names": Names(include=("team/signed",))},
         {"team/signed:sha256-aa.sig", "team/signed@attestation"}),
        ({"latest": 1, "names": Names(include=("team/signed:sha256-aa.sig",))}, set()),
        ({"names": Names(include=("team/app",))}, set()),
    ],
)  # fmt: skip
def test_what_is_about_an_image_comes_along(options: dict[str, Any], along: set[str]) -> None:
    """Attachments, and attachments of these, are selected with their image whatever their date."""
    about = {"team/signed:sha256-aa.sig", "team/signed@attestation"}
    assert names(planned(**options)) & about == along


def test_shards_share_out_repositories() -> None:
    """Each repository is in one part, whole, and always in the same."""
    tags = [tag(f"team/r{number}:{version}") for number in range(40) for version in (1, 2)]
    parts = [
        {name.rpartition(":")[0] for name in names(planned(tags, shard=(part, 3)))} for part in (1, 2, 3)
    ]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert min(map(len, parts)) > 5
    assert len(names(planned(tags, shard=(1, 3)))) == 2 * len(parts[0])
    assert "team/r0" in parts[2]


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"library": Library.KEEP}, {"library/short:1"}),
        ({"library": Library.STRIP}, {"short:1"}),
        ({"library": Library.BOTH}, {"short:1", "library/short:1"}),
        ({"mapping": {"library/short": "new/name"}}, {"new/name:1"}),
        ({"mapping": {"library/short:1": "new/name:9"}}, {"new/name:9"}),
        ({"mapping": {"library/short:1": "new/name:9", "library/short": "other"}}, {"new/name:9"}),
        ({"mapping": {"library/short:2": "new/name:9"}}, {"library/short:1"}),
        ({"mapping": {"short": "new"}}, {"library/short:1"}),
        ({"mapping": {"short": "new"}, "names": Names(shortened=True)}, {"new:1"}),
        ({"mapping": {"short:1": "new:2"}, "names": Names(shortened=True)}, {"new:2"}),
        ({"mapping": {"library/short": "library/kept"}, "library": Library.STRIP}, {"library/kept:1"}),
    ],
)
def test_names_in_this_registry(options: dict[str, Any], places: set[str]) -> None:
    """``library/x`` as asked for; a mapping wins over that, and that of a tag over that of its repository."""
    plan = planned([tag("library/short:1")], **options)
    assert {f"{entry.to_repository}:{entry.to_tag}" for entry in plan} == places
    assert {entry.action for entry in plan} == {PlanAction.IMPORT}


@pytest.mark.parametrize(
    ("source", "to_tag"),
    [("team/app@" + "f" * 64, "orphan-" + "f" * 12), ("team/app@" + SIGNED, "")],
    ids=["V1 image", "manifest"],
)
def test_untagged_images(source: str, to_tag: str) -> None:
    """Are left unless asked for, and then need no date; a V1 image gets a tag: none pulls it without one."""
    assert names(planned([tag(source)])) == set()
    (entry,) = planned([tag(source)])
    assert (entry.action, entry.reason) == (PlanAction.LEAVE, "untagged")
    (entry,) = planned([tag(source)], untagged=True)
    assert (entry.action, entry.to_repository, entry.to_tag) == (PlanAction.IMPORT, "team/app", to_tag)
    assert names(planned([tag(source)], untagged=True, names=Names(exclude=("team/app",)))) == set()
    undated = tag(source, None)
    assert names(planned([undated], untagged=True, latest=1)) == {undated.name}


@pytest.mark.parametrize(
    ("source", "options", "kind", "where", "word"),
    [
        (tag("Team/App:1"), {}, "bad-name", "Team/App", "such as team/app"),
        (tag("team/a b:1"), {}, "bad-name", "team/a b", "map 'team/a b' to"),
        (tag("team/app:a+b"), {}, "bad-tag", "team/app:a+b", "such as team/app:a-b"),
        (tag("team/app:" + "x" * 129), {}, "bad-tag", "team/app:" + "x" * 129, "team/app:" + "x" * 128),
        (tag("team/app:1"), {"mapping": {"team/app": "Bad"}}, "bad-name", "team/app", "such as bad"),
        (tag("team/app:1", image="lost"), {}, "no-layer", "team/app:1", "lost: team/app needs it"),
        (tag("team/app:1", None), {"latest": 1}, "undated", "team/app:1", "date"),
        (tag("team/app:1", None), {"since": day(2000)}, "undated", "team/app:1", "date"),
    ],
)
def test_what_cannot_be_imported(
    source: SourceTag, options: dict[str, Any], kind: str, where: str, word: str
) -> None:
    """It is skipped for a reason that begins with its kind, and reported; names can be mapped."""
    survey = FakeSurvey([source], broken={"lost"})
    selection = Selection(**options)
    (entry,) = make_plan(survey, selection)  # type: ignore[arg-type]
    (finding,) = lost_tags(survey, selection)  # type: ignore[arg-type]
    assert entry.action is PlanAction.SKIP
    assert entry.reason == f"{kind}: {finding.text}"
    assert (finding.kind, finding.where) == (kind, where)
    assert word in finding.text


def test_a_bad_repository_is_one_finding() -> None:
    """However many tags it has."""
    survey = FakeSurvey([tag("Team/App:1"), tag("Team/App:2"), tag("team/fine:1")])
    assert [finding.where for finding in lost_tags(survey, Selection())] == ["Team/App"]  # type: ignore[arg-type]
    assert names(make_plan(survey, Selection()), PlanAction.SKIP) == {"Team/App:1", "Team/App:2"}  # type: ignore[arg-type]


def test_what_is_not_selected_is_not_checked() -> None:
    """A broken image or an invalid name that is not selected is no obstacle."""
    tags = [tag("team/app:1", image="lost"), tag("Team/App:1"), tag("team/app:2", None)]
    plan = planned(tags, broken={"lost"}, names=Names(include=("nothing",)), latest=1)
    assert names(plan, PlanAction.LEAVE) == {each.name for each in tags}
    assert {entry.reason for entry in plan} == {"not selected"}


@pytest.mark.parametrize(
    ("tags", "options", "skipped"),
    [
        ([tag("a:1"), tag("b:1")], {"mapping": {"b": "a"}}, {"a:1", "b:1"}),
        ([tag("a:1"), tag("b:1")], {"mapping": {"b:1": "a:2"}}, set()),
        ([tag("library/x:1"), tag("x:1")], {"library": Library.STRIP}, {"library/x:1", "x:1"}),
        ([tag("library/x:1"), tag("x:1")], {"library": Library.KEEP}, set()),
        ([tag("library/x:1"), tag("x:1")], {"library": Library.STRIP, "names": Names(exclude=("x",))}, set()),
        ([tag("a:1", image="lost"), tag("b:1")], {"mapping": {"b": "a"}}, {"a:1"}),
        ([tag("a@" + SIGNED), tag("b@" + SIGNED)], {"mapping": {"b": "a"}, "untagged": True}, set()),
    ],
)
def test_collisions(tags: list[SourceTag], options: dict[str, Any], skipped: set[str]) -> None:
    """Two tags with one destination are both skipped, unless one is left, broken or gets no tag."""
    plan = planned(tags, broken={"lost"}, **options)
    assert names(plan, PlanAction.SKIP) == skipped
    others = [entry for entry in plan if entry.reason.startswith("collision")]
    assert all(any(other in entry.reason for other in skipped - {entry.name}) for entry in others)


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ([(2014, "old"), (2016, "new")], "new"),
        ([(2016, "new"), (2014, "old")], "new"),
        ([(2016, "a"), (2016, "b")], "b"),
    ],
)
def test_a_duplicate_tag(pairs: list[tuple[int, str]], kept: str) -> None:
    """Of a tag that the source has twice, the later one is imported; the other names it."""
    plan = planned([tag("a:1", year, image=image) for year, image in pairs])
    (taken,) = [entry for entry in plan if entry.action is PlanAction.IMPORT]
    (other,) = [entry for entry in plan if entry.action is PlanAction.SKIP]
    assert taken.image == kept
    assert other.reason.startswith("collision: ")
    assert other.reason.endswith(kept)


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"mapping": {"team/app": "x", "team/app:1": "y:1"}}, []),
        ({"mapping": {"team/none": "x", "team/app:9": "y:1"}}, ["team/app:9", "team/none"]),
        ({"mapping": {"short": "x"}}, ["short"]),
        ({"mapping": {"short": "x"}, "names": Names(shortened=True)}, []),
        ({"mapping": {"team/none": "x"}, "names": Names(exclude=("team/none",))}, []),
        ({"names": Names(listed=frozenset({"team/app", "team/other:1", "gone"}))}, ["gone"]),
        ({"names": Names(listed=frozenset())}, []),
        ({}, []),
    ],
)
def test_names_that_match_nothing(options: dict[str, Any], missing: list[str]) -> None:
    """Of mappings and lists: spelling mistakes are noticed."""
    assert unmatched(FakeSurvey(TAGS), Selection(**options)) == missing  # type: ignore[arg-type]


def test_a_plan_keeps_the_order_and_the_facts_of_the_source() -> None:
    """A line a name, as the source lists tags, with image and date."""
    plan = planned()
    assert [entry.name for entry in plan] == [each.name for each in TAGS]
    assert [entry.image for entry in plan] == [each.image for each in TAGS]
    assert plan[0].updated == "2014-01-01T00:00:00+00:00"
    assert plan[-1].updated == ""
