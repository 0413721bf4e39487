"""``dualreg webhook``, as an operator types it, and what the events of all generations are."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.acting import Api, acting
from dualreg.assembly import accounts_of, open_registry, prepare
from dualreg.catalog.leading import Duty, lead
from dualreg.catalog.webhooks import WebhookRow
from dualreg.cli import main, paging
from dualreg.cli import tasks as tasks_commands
from dualreg.cli import webhook as webhook_commands
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.registry import webhooks as webhooks_module
from dualreg.registry.outbox import Failure, Outbox
from dualreg.settings import Settings
from dualreg.webhooks.documents import event_document
from dualreg.webhooks.mark import MARK
from tests.builders import image, layer, v1_chain
from tests.programs import DUALREG, dualreg_process, unannounced, until
from tests.properties.registries import push_v1, push_v2
from tests.webhooks.receiver import Receiver, receiving

APP, OLD = RepositoryName("team/app"), RepositoryName("library/old")
LAYER = layer({"f": b"1"})
#: A server whose delivery has the priority of others.
SERVER = DUALREG.with_name("webhook-server")
#: What the path of a URL has that lets anybody post who knows it.
TOKEN = "T0kenT0kenT0kenT0kenT0ken"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An empty registry."""
    data = tmp_path / "data"
    prepare(Settings(data=data))
    return data


@pytest.fixture
def opened(data: Path) -> Iterator[Registry]:
    """The same, in this process."""
    with closing(open_registry(Settings(data=data))) as registry:
        yield registry


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that takes everything."""
    with receiving() as own:
        yield own


def run(data: Path, line: str, code: int = 0, networks: str = "127.0.0.0/8") -> str:
    """Run a command over a registry; return what it prints."""
    env = {"DUALREG_CONFIG": None, "DUALREG_WEBHOOK_NETWORKS": networks}
    result = unannounced(CliRunner().invoke(main, [*line.split(), "--data", str(data)], env=env))
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    return result.output


@pytest.mark.slow
def test_webhooks_are_managed(data: Path, opened: Registry, receiver: Receiver, tmp_path: Path) -> None:
    """Each command says what it did, and the audit log has it without secrets; what is wrong is one line."""
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdefghijklmn\n")
    assert "dualreg webhook add" in run(data, "webhook list")
    options = f"--secret-file {secret} --repository team/*:v* --repository x --action push --format docker"
    assert "webhook test ci" in run(data, f"webhook add ci {receiver.url}?token=hidden {options}")
    assert (data / "webhooks").exists()
    assert "there is a webhook ci" in run(data, f"webhook add ci {receiver.url}", code=1)
    assert "without --secret-file" in run(data, f"webhook add all {receiver.url}")
    for line, says in (
        (f"add UPPER {receiver.url}", "invalid name"),
        ("add a ftp://x/", "invalid URL"),
        ("add a http://user:pw@x/", "--authorization-file"),
        (f"add a {receiver.url} --repository Team", "invalid pattern"),
        (f"add a {receiver.url} --secret-file {tmp_path}/none", "none"),
        (f"add a {receiver.url} --ca {tmp_path}/none", "none"),
        ("remove none", "no webhook none"),
        ("remove none --dry-run", "no webhook none"),
        ("test none", "no webhook none"),
        ("events none", "no webhook none"),
        ("replay none", "no webhook none"),
        ("replay ci 99", "no event 99"),
        ("replay ci --since yesterday", "not a time"),
        ("retry none", "no webhook none"),
    ):
        assert says in run(data, f"webhook {line}", code=1)
    assert run(data, "webhook test ci").startswith("204 after 0.")
    assert json.loads(run(data, "webhook test all --json"))["delivered"] is True
    assert "not a public address" in run(data, "webhook test ci", code=1, networks="")
    assert [each.is_signed() for each in receiver.taken] == [True, False]
    assert receiver.taken[0].document == {"events": []}
    assert receiver.taken[1].document["type"] == "dualreg.ping"
    push_v2(opened, APP, Tag("v1"), image(LAYER))
    push_v2(opened, APP, Tag("w1"), image(LAYER))
    found = {each["name"]: each for each in json.loads(run(data, "webhook list --json"))}
    assert [found[name]["unread"] for name in ("all", "ci")] == [2, 2]
    outbox = Outbox(opened.state.catalog)
    assert outbox.collect() is False
    assert "team/app:v1" in run(data, "webhook events ci")
    assert [json.loads(line)["tag"] for line in run(data, "webhook events all --json").splitlines()] == [
        "v1",
        "w1",
    ]
    (queue,) = outbox.due("ci", (), 9)
    outbox.record("ci", queue, (), Failure("POST http://x/: 500", is_down=False))
    listed = run(data, "webhook list")
    assert "failing since" in listed
    assert "500" in listed
    assert "hidden" not in listed + run(data, "webhook list --json")
    assert "POST http://x/: 500" in run(data, "webhook events ci")
    assert "1 event will be sent now" in run(data, "webhook retry ci")
    assert run(data, "tasks run webhook/ci") == "webhook/ci: 1 event will be sent now\n"
    assert "no webhook none" in run(data, "tasks run webhook/none", code=1)
    tasks_commands.Control(opened, Settings(data=data)).start("webhook/ci")
    assert [each.attempts for each in outbox.due("ci", (), 9)] == [1]
    tasks = {each["name"]: each for each in json.loads(run(data, "tasks --json"))}
    assert (tasks["webhook/ci"]["status"], tasks["webhook/all"]["status"]) == ("failed", "never")
    (waiting,) = opened.webhooks.events("ci")
    outbox.record("ci", outbox.due("ci", (), 9)[0], [waiting.event.id])
    assert "0 events would be" in run(data, "webhook replay ci --dry-run")
    assert "1 event will be" in run(data, f"webhook replay ci {waiting.event.id}")
    assert json.loads(run(data, "webhook replay all --since 2020-01-01 --json"))["events"] == 2
    assert "2 events that it has not got would be" in run(data, "webhook remove all --dry-run")
    assert "2 events that it has not got were" in run(data, "webhook remove all")
    audit = (data / "audit.jsonl").read_text()
    commands = [json.loads(line)["command"] for line in audit.splitlines()]
    assert {"webhook add", "webhook remove", "webhook replay", "webhook retry"} <= {*commands}
    assert "hidden" not in audit


@pytest.mark.slow
def test_what_waits_without_a_sender_is_said(
    data: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, once events have waited for a while, and no process delivers; how many, up to a limit."""
    monkeypatch.setattr(webhooks_module, "_GRACE", timedelta(0))
    for module in (webhooks_module, webhook_commands, tasks_commands):
        monkeypatch.setattr(module, "COUNTED", 2)
    run(data, "webhook add a http://a/")
    run(data, "webhook add b http://b/ --json")
    assert "no server delivers" not in run(data, "webhook list") + run(data, "tasks")
    for tag in ("1", "2", "3"):
        push_v2(opened, APP, Tag(tag), image(LAYER))
    with lead(opened.state.catalog, Duty.WEBHOOKS) as led:
        assert led
        assert "no server delivers" not in run(data, "webhook list") + run(data, "tasks")
        Outbox(opened.state.catalog).collect()
    listed = run(data, "webhook list")
    assert listed.count("Events wait: no server delivers; run `dualreg serve`, or `dualreg webhook") == 1
    assert listed.count(" 2+ ") == 2
    assert run(data, "tasks").count("0 delivered, 2+ waiting, 0 given up: no server delivers; run") == 2
    assert [each["stopped"] == "" for each in json.loads(run(data, "webhook list --json"))] == [False] * 2
    assert "2+ events will be sent now" in run(data, "webhook retry a")
    assert json.loads(run(data, "webhook remove a --dry-run --json")) == {
        "webhook": "a", "waiting": 2, "dead": 0, "dry_run": True
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.sqlite
def test_webhooks_begin_with_the_end_of_a_rebuild(data: Path) -> None:
    """Whenever a server delivers: what is pushed before that is an event."""
    run(data, "webhook add a http://a/")
    for tag in ("before", "after"):
        with closing(open_registry(Settings(data=data))) as registry:
            push_v2(registry, APP, Tag(tag), image(LAYER))
        if tag == "before":
            for file in data.glob("catalog.sqlite3*"):
                file.unlink()
            (data / MARK).unlink()
            run(data, "db rebuild")
    assert (data / MARK).exists()
    with closing(open_registry(Settings(data=data))) as registry:
        registry.outbox(timedelta(1)).catch_up()
        assert [each.event.tag for each in registry.webhooks.events("a")] == ["after"]


@pytest.mark.slow
def test_webhooks_of_a_server(data: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An administrator manages them from anywhere, sees the same, and has no file of the machine read."""
    monkeypatch.setattr(paging, "_SIZE", 1)
    settings = Settings(data=data, auth="accounts")
    with (
        closing(open_registry(settings)) as opened,
        dualreg_process(data, wrapper=[SERVER], auth="accounts", webhook_networks="127.0.0.0/8") as server,
    ):
        accounts = accounts_of(opened)
        accounts.add("root", "correct horse")
        accounts.grant("root", "*", "admin,manage")
        key = f"root:{accounts.add_key('root', limits='', note='').text}"

        def there(line: str, code: int = 0) -> str:
            env = {"DUALREG_SERVER_KEY": key, "DUALREG_CONFIG": None}
            options = ["--server", f"http://{server.host}", *line.split()]
            result = unannounced(CliRunner().invoke(main, options, env=env))
            assert result.exit_code == code, result.output
            return result.output

        with lead(opened.state.catalog, Duty.WEBHOOKS) as led:  # instead of the server
            assert led
            refused = there(f"webhook add a {receiver.url} --authorization-file /etc/hostname", code=1)
            assert "--authorization-file names a file of the machine of the registry" in refused
            added = json.loads(there(f"webhook add a {receiver.url}/{TOKEN}?key=hidden --json"))
            assert added == {
                "webhook": "a", "url": f"{receiver.url}/***", "format": "cloudevents", "patterns": ["*"],
                "actions": ["push", "delete"], "signed": False
            }  # fmt: skip
            assert there("webhook test a").startswith("204 after 0.")
            assert receiver.seen == [f"/hook/{TOKEN}?key=hidden"]
            for tag in ("1", "2", "3"):
                push_v2(opened, APP, Tag(tag), image(LAYER))
                push_v2(opened, OLD, Tag(tag), image(LAYER))
            outbox = Outbox(opened.state.catalog)
            outbox.collect()
            with opened.state.catalog.begin() as tx:
                assert tx.webhooks.outbox.give_up("a", OLD, tx.now, "too old") == 3
            (queue,) = outbox.due("a", (), 9)
            outbox.record("a", queue, (), Failure("full", is_down=True, retry_after=3600))
            lines = ("webhook list", "webhook list --json", "webhook events a", "webhook events a --json")
            for line in (*lines, "webhook events a --dead", "webhook events a --dead --limit 2", "tasks"):
                shown = there(line)
                assert shown == run(data, line)
                assert TOKEN not in shown
                assert "hidden" not in shown
            assert [json.loads(line)["tag"] for line in there(lines[-1]).splitlines()] == ["1", "2", "3"]
            assert there("webhook events a --dead").count("too old") == 3
        assert json.loads(there("webhook replay a --json")) == {
            "webhook": "a", "events": 3, "dry_run": False
        }  # fmt: skip
        assert until(lambda: json.loads(there("webhook list --json"))[0]["waiting"] == 0, 120)
        assert len({each.id for each in receiver.taken}) == 7
        assert "0 events" in there("webhook remove a")
    audit = (data / "audit.jsonl").read_text()
    assert "hidden" not in audit
    assert TOKEN not in audit
    commands = [(line["event"], line.get("command")) for line in map(json.loads, audit.splitlines())]
    for command in ("add", "replay", "remove"):
        assert ("write", f"webhook {command}") in commands


def test_events_of_all_generations(opened: Registry) -> None:
    """Pushes over V1 and V2, commands and deletions are events, in order, in both forms."""
    push_v2(opened, APP, Tag("earlier"), image(LAYER))
    opened.webhooks.add(WebhookRow("a", "http://a/", "docker", ("*",), ("push", "delete")))
    with acting("alice", Api.V2):
        pushed = image(LAYER, oci=True)
        push_v2(opened, APP, Tag("v1"), pushed)
        push_v2(opened, APP, Tag("v1"), pushed)  # which changes nothing
    with acting("bob", Api.V1):
        push_v1(opened, OLD, Tag("latest"), v1_chain(LAYER))
    with acting("", Api.V2):
        opened.manifests.delete(APP, pushed.digest)
    with acting("repository delete", Api.COMMAND):
        opened.repositories.delete(OLD)
    outbox = Outbox(opened.state.catalog)
    outbox.collect()
    events = [each.event for each in opened.webhooks.events("a")]
    url = "https://registry.example"
    clouds = [json.loads(event_document(each, "cloudevents", url).body) for each in events]
    assert [
        (each["type"], each["subject"], each["data"]["api"], each["data"]["actor"]) for each in clouds
    ] == [
        ("dualreg.tag.push", "team/app:v1", "v2", "alice"),
        ("dualreg.tag.push", "library/old:latest", "v1", "bob"),
        ("dualreg.tag.delete", "team/app:v1", "v2", ""),
        ("dualreg.tag.delete", "library/old:latest", "command", "repository delete"),
    ]
    assert clouds[0]["source"] == url
    assert clouds[0]["data"]["digest"] == clouds[2]["data"]["previous_digest"] == str(pushed.digest)
    assert [each["data"]["origin"] for each in clouds] == ["v2", "v1", "v2", "v1"]
    assert sorted(each["sequence"] for each in clouds) == [each["sequence"] for each in clouds]
    dockers = [json.loads(event_document(each, "docker", url).body)["events"][0] for each in events]
    assert [each["id"] for each in dockers] == [each["id"] for each in clouds]
    assert [each["action"] for each in dockers] == ["push", "push", "delete", "delete"]
    assert dockers[0]["target"]["url"] == f"{url}/v2/team/app/manifests/{pushed.digest}"
    assert dockers[0]["target"]["size"] == len(pushed.manifest)
    assert (dockers[0]["actor"], dockers[2]["actor"]) == ({"name": "alice"}, {})
    assert dockers[2]["target"] == {"repository": "team/app", "tag": "v1"}
