"""Files of names, and what to propose for names that this registry cannot have."""

import pytest

from dualreg.errors import NameInvalid, TagInvalid
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.names import Names, propose, propose_tag, quoted, read_mapping, read_names


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
