"""``dualreg login``: a terminal logs in by an issuer, and docker finds the key."""

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.cli import main
from dualreg.remote import device_login
from tests.auth.login_issuer import CLIENT, SECRET, LoginIssuer, issuing
from tests.migrate.fronts import status
from tests.programs import dualreg_server


@pytest.fixture(scope="module")
def issuer() -> Iterator[LoginIssuer]:
    """An issuer."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def registry(issuer: LoginIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server whose people log in there."""
    folder = tmp_path_factory.mktemp("registry")
    (folder / "secret").write_text(SECRET)
    table = {"issuer": issuer.url, "client_id": CLIENT, "client_secret_file": str(folder / "secret")}
    chosen = {"auth": "accounts", "login_issuers": json.dumps({"corp": table})}
    with dualreg_server(folder / "data", **chosen) as host:
        yield f"http://{host}"


@pytest.fixture(autouse=True)
def _confirmed(issuer: LoginIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_login, "_SLOWER", 0)
    issuer.confirmed = True
    issuer.answer.clear()


def login(url: str, folder: Path, *options: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["login", url, "--docker-config", str(folder), *options])


@pytest.mark.slow
def test_docker_finds_the_key(registry: str, tmp_path: Path) -> None:
    """It is added to what docker knows, in a file of one's own."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"auths": {"other:5000": {"auth": "eDp5"}}, "detachKeys": "ctrl-x"}))
    done = login(registry, tmp_path, "--expires", "90d")
    assert done.exit_code == 0, done.output
    assert "Enter  ABCD-EFGH" in done.stderr
    assert "as alice, by key" in done.stdout
    document = json.loads(file.read_text())
    host = registry.removeprefix("http://")
    account, _, key = base64.b64decode(document["auths"][host]["auth"]).decode().partition(":")
    assert (account, key[:4]) == ("alice", "drk_")
    assert document["auths"]["other:5000"] == {"auth": "eDp5"}
    assert document["detachKeys"] == "ctrl-x"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]


def test_the_key_alone(registry: str, tmp_path: Path) -> None:
    """For pipes, and as JSON; nothing is written."""
    done = login(registry, tmp_path / "none", "--print")
    assert done.stdout.startswith("drk_")
    assert len(done.stdout.split()) == 1
    found = json.loads(login(registry, tmp_path / "none", "--print", "--json").stdout)
    assert set(found) == {"account", "key", "secret", "url"}
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"credsStore": "pass"}', "keeps credentials by a helper program; use --print"),
        ('{"credHelpers": {"x": "pass"}}', "keeps credentials by a helper program; use --print"),
        ("{", "config.json: "),
        ("[]", "not a JSON object"),
    ],
)
def test_configurations_that_stay(registry: str, tmp_path: Path, content: str, reason: str) -> None:
    """Before anybody enters a code."""
    (tmp_path / "config.json").write_text(content)
    done = login(registry, tmp_path)
    assert done.exit_code == 1
    assert reason in done.stderr
    assert "Enter" not in done.stderr
    assert (tmp_path / "config.json").read_text() == content


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("http://registry.example", (), "not https"),
        ("http://127.0.0.1:1", (), "POST http://127.0.0.1:1"),
        ("", ("--issuer", "other"), "there is no such issuer"),
        ("", ("--expires", "soon"), "expected a duration"),
    ],
)
def test_what_comes_to_nothing(
    registry: str, tmp_path: Path, url: str, options: tuple[str, ...], reason: str
) -> None:
    """One line says why."""
    done = login(url or registry, tmp_path, *options)
    assert done.exit_code in (1, 2)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_waiting(registry: str, issuer: LoginIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until somebody has entered the code, as slowly as the issuer asks, while the code is valid."""
    waits: list[float] = []
    monkeypatch.setattr(device_login, "_SLOWER", 5)
    issuer.confirmed = False

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        issuer.confirmed = len(waits) == 3

    session = device_login.DeviceLogin(registry, sleep=sleep)
    code = session.begin()
    issuer.answer.append(_slow_down)
    assert session.wait(code, note="n").account == "alice"
    assert waits == [1, 6, 6]
    issuer.confirmed = False
    short = code._replace(lifetime=2)
    never = device_login.DeviceLogin(registry, sleep=lambda _: None)
    with pytest.raises(device_login.RemoteError, match="the code was not entered in time"):
        never.wait(short, note="n")


def _slow_down(handler: Any) -> None:
    status(400, b'{"error": "slow_down"}')(handler)
