"""Files of names, and what to propose for names that this registry cannot have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.names import (
    Names,
    Proposals,
    propose,
    propose_tag,
    quoted,
    read_mapping,
    read_names,
)


@pytest.mark.parametrize(
    ("lines", "mapping"),
    [
        ([], {}),
        (["a b"], {"a": "b"}),
        (["a:1 b:2\n", "c   d\n"], {"a:1": "b:2", "c": "d"}),
        (["# a b", "", "   ", "a b # why"], {"a": "b"}),
        (["'a b' c", '"d #e" f'], {"a b": "c", "d #e": "f"}),
        (["a b", "a c"], {"a": "c"}),
    ],
)
def test_mappings(lines: list[str], mapping: dict[str, str]) -> None:
    """Two names a line, quoted and commented as in a shell; the last line about a name counts."""
    assert read_mapping(lines) == mapping


@pytest.mark.parametrize("line", ["a", "a b c", "a:1 b", "a b:1", "'a b", "''"])
def test_mappings_with_mistakes(line: str) -> None:
    """The line is named by its number."""
    with pytest.raises(ValueError, match=r"^line 3 of the mapping: "):
        read_mapping(["# names", "x y", line, "p q"])


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], set()),
        (["a", "b:1", "a"], {"a", "b:1"}),
        (["# a", "", "b # c", "'d e'"], {"b", "d e"}),
    ],
)
def test_lists(lines: list[str], names: set[str]) -> None:
    """One name a line."""
    assert read_names(lines) == names


@pytest.mark.parametrize("line", ["a b", "'a"])
def test_lists_with_mistakes(line: str) -> None:
    """The line is named by its number."""
    with pytest.raises(ValueError, match=r"^line 2 of the list: "):
        read_names(["x", line])


@pytest.mark.parametrize(
    ("name", "proposed"),
    [
        ("Team/App", "team/app"),
        ("a b/c__d", "a-b/c-d"),
        ("-a-/--/b.", "a/b"),
        ("größe", "gr-e"),
        ("///", "renamed"),
        ("", "renamed"),
        ("team/app", "team/app"),
        ("X" * 300, "x" * 255),
        ("X" * 254 + "/Y", "x" * 254),
    ],
)
def test_proposed_names(name: str, proposed: str) -> None:
    """Are valid, and like the name; a valid one is its own."""
    assert propose(name) == proposed
    assert RepositoryName.parse(proposed) == proposed


@pytest.mark.parametrize(
    ("tag", "proposed"),
    [
        ("a+b", "a-b"),
        ("a b  c", "a-b-c"),
        (".hidden", "hidden"),
        ("--x", "x"),
        ("x" * 200, "x" * 128),
        ("+", "renamed"),
        ("", "renamed"),
        ("1.0_A-b", "1.0_A-b"),
    ],
)
def test_proposed_tags(tag: str, proposed: str) -> None:
    """Likewise."""
    assert propose_tag(tag) == proposed
    assert Tag.parse(proposed) == proposed


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        (["Team/App", "team/app"], {"Team/App": "team/app-2"}),
        (["Team/App", "TEAM/App", "team/App"], {
            "Team/App": "team/app", "TEAM/App": "team/app-2", "team/App": "team/app-3"}),
        (["App", "library/app"], {"App": "app-2"}),
        (["X" * 300, "Y" * 300, "x" * 255], {"X" * 300: "x" * 253 + "-2", "Y" * 300: "y" * 255}),
    ],
)  # fmt: skip
def test_proposals_do_not_collide(names: list[str], proposed: dict[str, str]) -> None:
    """A name that is taken, also by V1 clients' short form, or proposed already gets a number."""
    proposals = Proposals((name, "1") for name in names)
    assert {name: proposals.repository(name) for name in proposed} == proposed


_TEXTS = st.text("aAbB+-._/ ", max_size=4)


@given(st.lists(st.tuples(_TEXTS, _TEXTS.filter(bool)), max_size=30))
def test_every_invalid_name_gets_its_own(names: list[tuple[str, str]]) -> None:
    """Whatever the names are: a valid one that nothing else has, and the same again."""
    proposals, again = Proposals(names), Proposals([*names, *names])
    repositories = {name for name, _ in names}
    new = {name: proposals.repository(name) for name in repositories if not _is_name(name)}
    assert {*map(RepositoryName.parse, new.values())}.isdisjoint(repositories)
    assert len({*new.values()}) == len(new)
    assert new == {name: again.repository(name) for name in new}
    tags = {each: proposals.tag(*each) for each in names if propose_tag(each[1]) != each[1]}
    assert {(name, Tag.parse(tag)) for (name, _), tag in tags.items()}.isdisjoint(names)
    assert len({(name, tag) for (name, _), tag in tags.items()}) == len(tags)


def _is_name(text: str) -> bool:
    try:
        RepositoryName.parse(text)
    except NameInvalid:
        return False
    return True


@pytest.mark.parametrize("name", ["Team/App", "a b", "", "x" * 300])
def test_names_that_are_proposed_for_are_invalid(name: str) -> None:
    """Else nothing would be proposed."""
    with pytest.raises(NameInvalid):
        RepositoryName.parse(name)
    with pytest.raises(TagInvalid):
        Tag.parse(f"{name}+")


@pytest.mark.parametrize(
    "name", ["plain/name:1", "a b", "a#b", "#a", "it's", 'say "x"', "back\\slash", "", "ä"]
)
def test_quoted_names_are_read_back(name: str) -> None:
    """Any name is read back as it was; plain names are not quoted."""
    new = "new:1" if ":" in name else "new"
    assert read_mapping([f"{quoted(name)} {new}"]) == {name: new}
    assert read_names([quoted(name)]) == {name}
    assert quoted("plain/name:1") == "plain/name:1"


@pytest.mark.parametrize(
    ("names", "repository", "tag", "come"),
    [
        (Names(include=("team/app",)), "team/app", "1", True),
        (Names(include=("team/app",)), "team/other", "1", False),
        (Names(include=("team/app:1",)), "team/app", "sha256-" + "a" * 64 + ".sig", True),
        (
            Names(include=("team/app:1",), exclude=("*:*.sig",)),
            "team/app",
            "sha256-" + "a" * 64 + ".sig",
            False,
        ),
        (Names(listed=frozenset({"team/app:1"})), "team/app", "2", False),
    ],
)
def test_what_may_be_imported(names: Names, repository: str, tag: str, *, come: bool) -> None:
    """Selected tags may be, and tags that may be attachments of selected ones, judged by name."""
    assert names.may_be_imported(repository, tag) is come
