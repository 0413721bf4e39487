"""Plans are files: what was written is read back, edits count, and mistakes are named by their line."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from dualreg.migrate.plan import Entry, PlanAction, read_plan, write_plan

ENTRY = Entry("library/x", "1", "f" * 64, "x", "1", PlanAction.IMPORT, updated="2014-01-01T00:00:00+00:00")
ENTRIES = [
    ENTRY,
    replace(ENTRY, tag="2", to_tag="2", action=PlanAction.SKIP, reason="no-layer: it has none"),
    replace(ENTRY, tag="größe", to_tag="gr-e", updated=""),
    replace(ENTRY, tag="", image="sha256:" + "0" * 64, to_tag="", action=PlanAction.LEAVE, reason="untagged"),
]


def line(**changes: Any) -> str:
    """Return the line of ENTRY with other values; None takes one out."""
    return json.dumps({name: value for name, value in (asdict(ENTRY) | changes).items() if value is not None})


def test_a_plan_is_read_back_as_it_was_written() -> None:
    """A line an entry, as text that people can read."""
    lines = [*write_plan(ENTRIES)]
    assert len(lines) == len(ENTRIES)
    assert "größe" in lines[2]
    assert read_plan(lines) == ENTRIES
    assert all(isinstance(entry.action, PlanAction) for entry in read_plan(lines))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"action": "leave"}, replace(ENTRY, action=PlanAction.LEAVE)),
        ({"to_repository": "new", "to_tag": "9"}, replace(ENTRY, to_repository="new", to_tag="9")),
        ({"reason": None, "updated": None}, replace(ENTRY, updated="")),
        ({"updated": "2014-01-01T00:00:00Z"}, replace(ENTRY, updated="2014-01-01T00:00:00Z")),
    ],
)
def test_edited_lines(changes: dict[str, Any], expected: Entry) -> None:
    """Are taken as they are; empty lines are nothing."""
    assert read_plan(["", line(**changes), "  \n"]) == [expected]


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ("nonsense", "Expecting value"),
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("[" * 100_000, "maximum recursion"),
        (line(action="destroy"), 'unknown action "destroy"; expected import, skip, leave$'),
        (line(action=None), 'no member "action"$'),
        (line(image=None), 'no member "image"$'),
        (line(colour="red"), 'unknown member "colour"$'),
        (line(tag=1), "a value is not a string"),
        (line(to_tag=["1"]), "a value is not a string"),
        (line(updated="yesterday"), "Invalid isoformat"),
        (line(updated="2014-01-01T00:00:00"), "has no time zone"),
    ],
    ids=range(13),
)
def test_mistakes(bad: str, text: str) -> None:
    """The message names the line, and what is wrong in it."""
    with pytest.raises(ValueError, match=f"^line 3 of the plan: .*{text}"):
        read_plan([line(), "", bad])


@pytest.mark.parametrize(
    ("second", "taken"),
    [
        (line(repository="other"), True),
        (line(repository="other", to_tag="2"), False),
        (line(repository="other", to_repository="y"), False),
        (line(repository="other", action="leave"), False),
        (line(repository="other", action="skip"), False),
    ],
)
def test_two_lines_with_one_destination(second: str, *, taken: bool) -> None:
    """Are a mistake that names both, unless one is not imported."""
    lines = [line(), "", second]
    if not taken:
        assert len(read_plan(lines)) == 2
        return
    with pytest.raises(ValueError, match=r"^lines 1 and 3 of the plan: .*x:1"):
        read_plan(lines)


def test_manifests_without_a_tag_have_no_destination_to_share() -> None:
    """Several may be imported into one repository."""
    lines = [line(tag="", to_tag="", image=f"sha256:{digit * 64}") for digit in "01"]
    assert len(read_plan(lines)) == 2


@pytest.mark.parametrize(
    ("entry", "name"), [(ENTRY, "library/x:1"), (ENTRIES[3], "library/x@sha256:" + "0" * 64)]
)
def test_names_of_entries(entry: Entry, name: str) -> None:
    """As the source has them."""
    assert entry.name == name
