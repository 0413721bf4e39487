"""The table of transports, and its openers."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.cli import main
from dualreg.migrate.transports import ON_DEMAND, SURVEYS, TARGETS
from dualreg.settings import Settings
from dualreg.transports import TRANSPORTS, LocationInvalid, Use, grammars, is_remote, parse_location

_ROOT = Path(__file__).parents[2]
_OPENERS = {Use.SOURCE: SURVEYS, Use.TARGET: TARGETS, Use.ON_DEMAND: ON_DEMAND}


@pytest.mark.parametrize("use", Use)
def test_each_use_has_an_opener(use: Use) -> None:
    """No transport claims a use that nothing implements, and no opener is out of reach."""
    assert {each.name for each in TRANSPORTS if use in each.uses} == _OPENERS[use].keys()


@pytest.mark.parametrize("transport", TRANSPORTS, ids=lambda each: each.name)
def test_targets_have_a_next_step(transport: object) -> None:
    """Names are unique, on-demand sources have a generation, and targets say what to do with them."""
    (found,) = (each for each in TRANSPORTS if each is transport)
    assert [each.name for each in TRANSPORTS].count(found.name) == 1
    assert bool(found.next_step) == (Use.TARGET in found.uses)
    assert found.generation in ("v1", "v2") or Use.ON_DEMAND not in found.uses


@pytest.mark.parametrize(
    ("text", "use", "name", "rest"),
    [
        ("v1-tree:/old", Use.SOURCE, "v1-tree", "/old"),
        ("v1-tree:a:b", Use.ON_DEMAND, "v1-tree", "a:b"),
        ("registry-tree:relative", Use.ON_DEMAND, "registry-tree", "relative"),
        ("docker-archive:-", Use.TARGET, "docker-archive", "-"),
        ("static-tree:/www", Use.TARGET, "static-tree", "/www"),
        ("v1+http://host", Use.SOURCE, "v1", "//host"),
        ("v2+https://host:5000/team", Use.TARGET, "v2", "//host:5000/team"),
    ],
)
def test_locations(text: str, use: Use, name: str, rest: str) -> None:
    """Are a scheme, a colon, and a path or URL."""
    found = parse_location(text, use)
    assert (found.transport.name, found.rest) == (name, rest)


def test_a_path_may_begin_with_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave ``~`` as it is behind a colon; in a URL it is a name."""
    monkeypatch.setenv("HOME", "/home/op")
    assert parse_location("registry-tree:~/old", Use.SOURCE).rest == "/home/op/old"
    assert parse_location("v2+https://host/~/old", Use.SOURCE).rest == "//host/~/old"


@pytest.mark.parametrize(
    ("text", "use", "message"),
    [
        ("/nope", Use.SOURCE, 'unknown source "/nope"; expected v1-tree:PATH, registry-tree:PATH, '),
        ("", Use.SOURCE, 'unknown source ""; expected '),
        ("static-tree:/www", Use.SOURCE, 'unknown source "static-tree:/www"; expected v1-tree:PATH, '),
        ("v1-tree:/old", Use.TARGET, 'unknown target "v1-tree:/old"; expected registry-tree:PATH, '),
        ("v1+http://host", Use.TARGET, 'unknown target "v1+http://host"; expected '),
        ("v2+ftp://host", Use.SOURCE, 'unknown source "v2+ftp://host"; expected '),
        ("v2", Use.SOURCE, 'unknown source "v2"; expected '),
        (
            "v2+http://h",
            Use.ON_DEMAND,
            'unknown on-demand source "v2+http://h"; expected v1-tree:PATH, regis',
        ),
        ("oci-layout", Use.SOURCE, 'missing path in "oci-layout"; expected oci-layout:PATH'),
        ("v2+http://", Use.SOURCE, 'missing host in "v2+http://"; expected v2+http(s)://HOST[/REPOSITORY]'),
        ("v2+http:", Use.TARGET, 'missing host in "v2+http:"; expected v2+http(s)://HOST[/PREFIX]'),
        ("v1+http:host", Use.SOURCE, 'invalid URL "v1+http:host"; expected v1+http(s)://HOST[/REPOSITORY]'),
    ],
)
def test_invalid_locations(text: str, use: Use, message: str) -> None:
    """Are refused with what was expected."""
    with pytest.raises(LocationInvalid) as caught:
        parse_location(text, use)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:secret@host/x", 'unknown source "https://***@host/x"'),
        ("v2+ftp://me:se@cret@host", 'unknown source "v2+ftp://***@host"'),
        ("v2+https:me:secret@host", 'invalid URL "v2+https:***@host"'),
        ("me:secret@host", 'unknown source "me:***@host"'),
        ("secret@host", 'unknown source "***@host"'),
        ("v1_tree:/srv/a@b:c", 'unknown source "v1_tree:/srv/a@b:c"'),
    ],
)
def test_invalid_locations_do_not_show_passwords(text: str, shown: str) -> None:
    """Messages go to terminals and logs."""
    with pytest.raises(LocationInvalid) as caught:
        parse_location(text, Use.SOURCE)
    assert str(caught.value).startswith(f"{shown}; expected ")


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("v2+https://host/team", "pull from https://host/team"),
        ("docker-archive:a.tar", "docker load --input a.tar"),
        ("static-tree:/www", "nginx, with include /www/nginx.conf"),
    ],
)
def test_next_steps(text: str, step: str) -> None:
    """Name the path or URL of the target."""
    assert parse_location(text, Use.TARGET).next_step == step


def test_remote_locations() -> None:
    """Are URLs; everything else is a path, whether its scheme is known or not."""
    assert [is_remote(text) for text in ("v1+http://h", "v2+https://h", "v2+http:h")] == [True] * 3
    assert not any(is_remote(text) for text in ("v1-tree:http", "https://h", "other:/x", "", "v2:/x"))


def test_grammars() -> None:
    """Are listed in the order of the table."""
    assert [*grammars(Use.ON_DEMAND)] == ["v1-tree:PATH", "registry-tree:PATH"]
    assert grammars(Use.TARGET)[-1] == "v2+http(s)://HOST[/PREFIX]"


@pytest.mark.parametrize(("command", "use"), [("migrate", Use.SOURCE), ("export", Use.TARGET)])
def test_commands_name_all_transports(command: str, use: Use) -> None:
    """With their grammar, wherever the help breaks its lines."""
    text = "".join(CliRunner().invoke(main, [command, "--help"]).output.split())
    assert [grammar for grammar in grammars(use) if grammar not in text] == []


def test_the_setting_names_all_transports() -> None:
    """That can be imported from on demand."""
    text = Settings.model_fields["legacy_source"].description or ""
    assert [grammar for grammar in grammars(Use.ON_DEMAND) if grammar not in text] == []


def test_the_guide_names_all_transports() -> None:
    """Sources and targets alike."""
    text = (_ROOT / "docs/migrate.md").read_text()
    schemes = [scheme for each in TRANSPORTS for scheme in each.schemes or (each.name,)]
    assert [scheme for scheme in schemes if f"{scheme}:" not in text] == []
