"""``dualreg v1``: a switch restricts what the setting ``v1`` allows, in every process, and is undone."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import event, update

from dualreg.assembly import catalog_of, open_registry, prepare
from dualreg.catalog.database import DatabaseFailure
from dualreg.catalog.tables import Switches
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry, v1_mode
from dualreg.registry.v1_mode import V1Mode, V1Switch
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.programs import dualreg_process, unannounced, until
from tests.properties.registries import push_v1
from tests.protocol.clients.tarsum import tarsum
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.wire import ProtocolError
from tests.protocol.test_modes import LOGIN, OPEN, READS, REASON, WRITES

NAME, TAG = RepositoryName("team/app"), Tag("v1")
CHAIN = builders.v1_chain(builders.layer({"a": b"a"}), builders.layer({"b": b"b"}))
TOP = CHAIN[-1]
NEXT = builders.v1_chain(builders.layer({"c": b"c"}), seed="next")
REQUESTS = [(each[0], each[1]) for each in (*OPEN, *LOGIN, *READS)] + WRITES
MODES = [*V1Mode]
SESSION = {"Authorization": f'Token repository="{NAME}"'}

Open = Callable[..., tuple[FlaskClient, Registry]]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens the same registry as another process does, with a setting of its own."""
    with ExitStack() as stack:

        def open_(mode: str = "on") -> tuple[FlaskClient, Registry]:
            settings = Settings(data=tmp_path, v1=mode, v1_reason=REASON, audit="off")
            prepare(settings)
            registry = open_registry(settings)
            stack.callback(registry.close)
            return client_of(registry, settings), registry

        yield open_


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time by which a switch that was read counts; it stands still."""
    now = [1000.0]
    monkeypatch.setattr(v1_mode, "monotonic", lambda: now[0])
    return now


def exchanges(client: FlaskClient) -> list[tuple[int, bytes, str | None]]:
    """Return what every request of old clients is answered."""
    answers = [client.open(path, method=method, data=b"[]") for method, path in REQUESTS]
    return [(answer.status_code, answer.data, answer.headers.get("Allow")) for answer in answers]


@pytest.mark.slow
def test_the_stricter_of_both_counts(opened: Open) -> None:
    """Each pair of setting and switch is answered as the stricter of them alone."""
    exchanges(opened()[0])  # which leave the repository as it is
    expected = {mode: exchanges(opened(mode)[0]) for mode in MODES}
    assert len({str(each) for each in expected.values()}) == 3
    for switch in MODES:
        opened()[1].v1_switch.set(switch)
        for setting in MODES:
            client, registry = opened(setting)
            stricter = MODES[max(MODES.index(setting), MODES.index(switch))]
            assert exchanges(client) == expected[stricter], (setting, switch)
            state = registry.v1_switch.look(setting)
            assert (state.v1, state.setting, state.switch) == (stricter, setting, switch)
            assert (state.since is None) == (switch == "on")
            assert (state.restricted_since is None) == (stricter == setting)
            assert [*state.others] == [each for each in MODES[MODES.index(setting) :] if each != stricter]


def test_what_a_later_version_knows_counts_as_off(opened: Open) -> None:
    """A value that this one does not know restricts more, not less."""
    _, registry = opened()
    registry.v1_switch.set(V1Mode.READONLY)
    with catalog_of(registry).engine.begin() as connection:
        connection.execute(update(Switches).values(value="pulls"))
    assert opened()[0].get("/v1/users/").status_code == 404


def test_other_processes_follow_within_a_second(opened: Open, seconds: list[float]) -> None:
    """Also with answers that they remember; the process that switches does so at once."""
    (here, registry), (there, _) = opened(), opened()
    push_v1(registry, NAME, TAG, CHAIN)
    path = f"/v1/images/{TOP.id}/json"

    def codes() -> list[int]:
        answers = [[each.get(path, headers=SESSION).status_code for _ in range(3)] for each in (here, there)]
        assert all(len({*each}) == 1 for each in answers), answers
        return [each[0] for each in answers]

    assert codes() == [200, 200]
    for mode, code in ((V1Mode.OFF, 404), (V1Mode.READONLY, 200), (V1Mode.OFF, 404), (V1Mode.ON, 200)):
        before = codes()[1]
        registry.v1_switch.set(mode)
        seconds[0] += v1_mode.FRESH * 0.99
        assert codes() == [code, before]
        seconds[0] += v1_mode.FRESH * 0.011
        assert codes() == [code, code]


def test_pulls_cost_no_statement(opened: Open, seconds: list[float]) -> None:
    """The switch is read once a second, however many requests there are; with ``v1 = "off"``, never."""
    client, registry = opened()
    push_v1(registry, NAME, TAG, CHAIN)
    seen = list[str]()

    def note(*given: Any) -> None:
        seen.extend(text for text in (str(given[2]),) if "switches" in text)

    event.listen(catalog_of(registry).engine, "before_cursor_execute", note)
    for number in range(1, 4):
        for _ in range(5):
            for method, path in (("GET", f"/v1/images/{TOP.id}/layer"), ("PUT", f"/v1/images/{TOP.id}/json")):
                client.open(path, method=method, headers=SESSION, data=TOP.json)
        assert len(seen) == number
        seconds[0] += v1_mode.FRESH
    other, registry = opened("off")
    event.listen(catalog_of(registry).engine, "before_cursor_execute", note)
    assert other.get("/v1/users/").status_code == 404
    assert len(seen) == 3


def test_a_look_that_fails_is_the_last(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request fails; nothing else is asked of a database that is away, which takes a wait each time."""
    client, _ = opened()
    asked = list[object]()

    def fail(*_: object) -> None:
        raise DatabaseFailure("away")

    monkeypatch.setattr(V1Switch, "mode", fail)
    monkeypatch.setattr(Registry, "version", lambda *_, **__: asked.append("rows"))
    assert client.get(f"/v1/images/{TOP.id}/json").status_code == 500
    assert asked == []


@pytest.mark.parametrize("mode", [V1Mode.READONLY, V1Mode.OFF])
def test_a_push_under_way_is_refused(opened: Open, mode: V1Mode) -> None:
    """From its next request on; its tag stays as it was, and once that is undone, it goes on."""
    client, registry = opened()
    push_v1(registry, NAME, TAG, CHAIN)
    (image,) = NEXT
    steps: list[tuple[str, bytes]] = [
        (f"/v1/repositories/{NAME}/", json.dumps([{"id": image.id, "Tag": TAG}]).encode()),
        (f"/v1/images/{image.id}/json", image.json),
        (f"/v1/images/{image.id}/layer", image.layer),
        (f"/v1/images/{image.id}/checksum", b""),
        (f"/v1/repositories/{NAME}/tags/{TAG}", json.dumps(image.id).encode()),
        (f"/v1/repositories/{NAME}/images", b"[]"),
    ]
    tag = f"/v1/repositories/{NAME}/tags/{TAG}"

    def push(steps: list[tuple[str, bytes]]) -> list[int]:
        sums = {"X-Docker-Checksum": tarsum(image.json, image.layer)}
        return [client.put(path, data=body, headers={**SESSION, **sums}).status_code for path, body in steps]

    assert push(steps[:3]) == [200] * 3
    registry.v1_switch.set(mode)
    assert {*push(steps[3:])} == {405 if mode == "readonly" else 404}
    registry.v1_switch.set(V1Mode.ON)
    assert client.get(tag, headers=SESSION).json == TOP.id
    assert push(steps[3:]) == [200, 200, 204]
    assert client.get(tag, headers=SESSION).json == image.id


def run(data: Path, line: str, code: int = 0, options: Mapping[str, str | None] | None = None) -> str:
    """Run a command over a registry; return what it prints."""
    env = {"DUALREG_CONFIG": None, "DUALREG_AUDIT": str(data.parent / "audit"), **(options or {})}
    result = unannounced(CliRunner().invoke(main, [*line.split(), "--data", str(data)], env=env))
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_says_what_it_did(tmp_path: Path) -> None:
    """And how to undo it; the audit log has each change."""
    settings = Settings(data=tmp_path / "data", audit="off")
    prepare(settings)
    open_registry(settings).close()
    data = settings.data
    assert run(data, "v1 show") == "V1 is on, as the setting v1 says.\n"
    assert "Switching V1 to readonly is safe. To do it, run `dualreg v1 set readonly`." in run(
        data, "clients --summary"
    )
    said = run(data, "v1 set readonly")
    assert said.startswith("V1 is readonly: it was switched at ")
    assert said.endswith("the setting v1 is on.\nTo undo that, run `dualreg v1 set on`.\n")
    shown = json.loads(run(data, "v1 show --json"))
    assert {name: shown[name] for name in ("v1", "setting", "switch")} == {
        "v1": "readonly",
        "setting": "on",
        "switch": "readonly",
    }
    assert run(data, "v1 set readonly").partition(";")[0] == said.partition(";")[0]
    assert json.loads(run(data, "v1 show --json")) == shown
    summary = run(data, "clients --summary")
    assert "V1 was switched to readonly at " in summary
    assert "run `dualreg v1 set off`" in summary
    assert "Next: run `dualreg v1 set off`." in run(data, "clients")
    assert json.loads(run(data, "clients --summary --json"))["v1"] == "readonly"
    assert run(data, "v1 set on") == "V1 is on, as the setting v1 says.\n"
    assert "is not one of" in run(data, "v1 set half", code=2)
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(line["command"], line["v1"], line["before"]) for line in lines] == [
        ("v1 set", "readonly", "on"),
        ("v1 set", "readonly", "readonly"),
        ("v1 set", "on", "readonly"),
    ]


@pytest.mark.slow
def test_followers(tmp_path: Path) -> None:
    """One that takes over accounts takes the switch over; any other has its own, which the command sets."""
    settings = Settings(data=tmp_path / "data", audit="off")
    prepare(settings)
    open_registry(settings).close()
    (copied,) = settings.data.rglob("access.json")
    copied.unlink()

    def follower(name: str, auth: str) -> tuple[Settings, Callable[..., str]]:
        found = Settings(data=tmp_path / name, follow=settings.data, auth=auth, audit="off")
        prepare(found)
        options = {"DUALREG_FOLLOW": str(settings.data), "DUALREG_AUTH": auth}
        return found, partial(run, found.data, options=options)

    def code(settings: Settings) -> int:
        with closing(open_registry(settings)) as registry:
            return client_of(registry, settings).get("/v1/users/").status_code

    for name, auth in (("open", "none"), ("bare", "accounts")):  # access.json is left out
        own, command = follower(name, auth)
        before = code(own)
        assert command("v1 set off").startswith("V1 is off: it was switched")
        prepare(own)  # as each start does
        assert (before == 404, code(own)) == (False, 404)
    run(settings.data, "v1 set readonly")
    assert copied.exists()
    own, command = follower("open", "none")
    assert command("v1 set on").startswith("V1 is on")
    assert code(own) != 404
    _, command = follower("bare", "accounts")
    assert command("v1 show").startswith("V1 is readonly")
    assert "switch V1 there" in command("v1 set on", code=1)


@pytest.mark.sqlite
def test_a_switch_outlives_the_catalog(tmp_path: Path) -> None:
    """What a rebuild makes of the store has it: old clients are not let in again by a loss."""
    settings = Settings(
        data=tmp_path / "data", database=f"sqlite:///{tmp_path}/data/catalog.sqlite3", audit="off"
    )
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        push_v1(registry, NAME, TAG, CHAIN)
    run(settings.data, "v1 set off")
    before = json.loads(run(settings.data, "v1 show --json"))
    for file in settings.data.glob("catalog.sqlite3*"):
        file.unlink()
    run(settings.data, "db rebuild")
    assert json.loads(run(settings.data, "v1 show --json")) == before


@pytest.mark.slow
def test_a_server_with_two_processes(tmp_path: Path) -> None:
    """A command switches both while they serve, and back."""
    data = tmp_path / "data"
    with dualreg_process(data, workers=2, audit="off", v1_reason=REASON) as serving:

        def refused() -> bool:
            try:
                V1Client(serving.host).push(NAME, TAG, CHAIN)
            except ProtocolError as error:
                return REASON in str(error)
            return False

        assert not refused()
        run(data, "v1 set readonly")
        time.sleep(v1_mode.FRESH)
        assert [refused() for _ in range(8)] == [True] * 8  # whichever process is asked
        assert len(V1Client(serving.host).pull(NAME, TAG)) == len(CHAIN)
        run(data, "v1 set on")
        assert until(lambda: not any(refused() for _ in range(4)))
