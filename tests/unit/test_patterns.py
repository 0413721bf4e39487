"""The pattern language, and what of it each place refuses that reads it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.auth.permissions import parse_rule
from dualreg.cli import main
from dualreg.patterns import check_pattern, has_wildcard, matches
from dualreg.settings import Settings, SettingsInvalid


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("team/app", ["team/app"], ["team/app2", "team", "xteam/app", ""]),
        ("*", ["", "team", "team/app", "a/b/c"], []),
        ("team/*", ["team/", "team/app", "team/app/debug"], ["team", "teams/app", "x/team/app"]),
        ("*/app", ["/app", "team/app", "a/b/app"], ["app", "team/app2"]),
        ("team/*/debug", ["team/app/debug", "team/a/b/debug"], ["team/debug", "team/app/debug2"]),
        ("*a*a*", ["aa", "banana"], ["a", "bab"]),
        ("ab*ba", ["abba", "ab/ba"], ["aba"]),
        ("**", ["", "a"], []),
        ("*:v1", ["team/app:v1"], ["team/app:v10"]),
        ("team/app:*", ["team/app:v1"], ["team/app", "team/app2:v1"]),
        ("a.c", ["a.c"], ["abc"]),
        ("a_c", ["a_c"], ["abc"]),
        ("a%c", ["a%c"], ["abc", "ac"]),
        ("a!*", ["a!", "a!b"], ["a", "ab", "a*"]),
        ("A*", ["Ab"], ["ab"]),
        ("\\*", ["\\", "\\*"], ["*", ""]),
        ("{account}/*", ["{account}/x"], ["alice/x"]),
        ("", [""], ["a"]),
    ],
)
def test_the_language(pattern: str, matching: list[str], others: list[str]) -> None:
    """A star matches anything, slashes included; everything else matches itself."""
    assert [text for text in (*matching, *others) if matches(pattern, text)] == matching
    assert check_pattern(pattern) == pattern
    assert has_wildcard(pattern) is ("*" in pattern)


def test_matching_takes_no_time() -> None:
    """However many stars, and however nearly it matches."""
    assert not matches("*a" * 120 + "b", "a" * 255)


@pytest.mark.parametrize(
    ("pattern", "character"), [("v?", "?"), ("v[12]", "["), ("[!a]*", "["), ("a/*?", "?"), ("v[", "[")]
)
def test_other_wildcards_are_refused(pattern: str, character: str) -> None:
    """With the character, and what to write instead, wherever a pattern is given."""
    reason = f'invalid pattern "{pattern}": "{character}" is not supported; only * is special'
    with pytest.raises(ValueError, match="write one pattern for each alternative") as refused:
        check_pattern(pattern)
    assert str(refused.value).startswith(reason)
    for bridge in (f"{pattern}=off", f"both, a/*=off, {pattern}=v1-to-v2"):
        with pytest.raises(SettingsInvalid) as invalid:
            Settings.from_env({"DUALREG_BRIDGE": bridge})
        assert reason in str(invalid.value)
    with pytest.raises(ValueError, match="pattern"):
        parse_rule("alice", pattern, "pull")


@pytest.mark.parametrize("command", ["migrate plan v1-tree:/absent", "export oci-layout:out"])
@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_commands_refuse_them_before_anything_is_read(command: str, option: str, tmp_path: Path) -> None:
    """As a wrong use of the command: the absent source is not even looked for."""
    result = CliRunner().invoke(main, [*command.split(), option, "team/app:v[12]", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert 'invalid pattern "team/app:v[12]": "[" is not supported' in result.output
    assert not any(tmp_path.iterdir())
