"""Commands on a server print what they print on its machine, and those that cannot run there say why."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from dualreg.acting import Api, acting
from dualreg.assembly import accounts_of, catalog_of, open_registry, prepare
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.local import LOCAL, why_local
from dualreg.operations.table import OPERATIONS
from dualreg.registry.activity import KeyUses
from dualreg.settings import Settings
from tests import builders
from tests.architecture.test_docs import commands
from tests.programs import DUALREG, dualreg_server, free_port, running, unannounced, wait_for
from tests.properties.registries import push_v1, push_v2
from tests.test_tls import make_certificate, served

NAMES = [RepositoryName(name) for name in ("team/app", "team/web", "other/app")]
IMAGES = [builders.image(builders.layer({"a": b"%d" % n}), oci=bool(n)) for n in range(3)]
CHAIN = builders.v1_chain(builders.layer({"a": b"v1"}))
DIGESTS = [image.digest for image in IMAGES]
#: What is another one at each run: times, and ids and secrets that are drawn.
_CHANGING = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?(?:\+00:00)?)?"
    r"|(?:[A-Z2-7]{4}:){11}[A-Z2-7]{4}|drk_[\w-]+|\b[0-9a-f]{16}\b"
)

#: What an operator types, in this order.
LINES = [
    "tag recent --limit 4", "tag recent --json --limit 3",
    "tag list team/app", "tag list team/app --json", "tag list team/app --newest --limit 1",
    "tag list team/app --prefix v", "tag list team/app --sort -size --json",
    "tag list team/app --sort pulled", "tag list team/none", "tag list Team", "tag history team/app:v1",
    "tag history team/app:v1 --json --limit 2", "tag history team/app:none", "tag history team/app",
    "tag restore team/app:v1 --dry-run", "tag restore team/app:v1", "tag restore team/app:v1 --json",
    f"tag restore team/app:v1 --to {DIGESTS[0]}", "tag restore team/app:v1 --at 2001-01-01T00:00Z",
    "tag restore team/app:v1 --to x", "tag set team/app:new v1 --json", "tag set team/app:new v1",
    "tag set team/app:new none", f"tag set team/app:new {DIGESTS[0]} --dry-run", "tag set team/app:new :x",
    "tag delete team/app:new --dry-run", "tag delete team/app:new --json", "tag delete team/app:new",
    "tag set team/app:a v1", "tag set team/app:b v1", "tag delete team/app:a team/app:b --dry-run",
    "tag delete team/app:a team/app:none other/app:none --json", "tag delete team/app:b Team:x",
    "tag delete team/app:b team/none:v1", "tag delete team/app:b team/app:b", "tag delete",
    "tag forget team/app:new --dry-run", "tag forget team/app:new", "tag forget team/app:new --json",
    "tag forget Team", "tag forget team/none",
    "usage", "usage --json", "usage team/*", "usage --depth 1", "usage --depth 1 --json --after other",
    "usage --depth 0", "usage --depth 0 --json", "usage a?", "usage --limit 1", "usage --after team/app",
    "immutable list", "immutable add team/*:v*", "immutable add team/*:v*", "immutable add x",
    "immutable list --json", "immutable explain team/app:v1", "immutable explain team/app:v1 --json",
    "immutable explain other/app:v1", "immutable explain Bad:v1", "tag delete team/app:v1",
    "immutable remove team/*:v*", "immutable remove team/*:v*", "immutable list",
    "quota list", "quota set team/* 1m --soft 500k", "quota set team/* 1k", "quota set * x", "quota list",
    "quota list --json", "quota set a? 1", "quota set team/* 1k --soft 2k", "quota remove team/*",
    "quota remove team/*",
    "retention list", "retention add team/* --newest 1 --younger-than 30d --matching v* --matching w*",
    "retention add team/*", "retention add team/*:pr-* --pulled-within 12h", "retention list",
    "retention list --json", "retention explain team/app", "retention explain team/app --json",
    "retention explain team/app:v1", "retention explain team/app:none", "retention explain team/none",
    "retention explain other/app", "retention add *:x* --newest 5000", "retention remove team/*",
    "retention remove team/*", "retention remove team/*:pr-*", "retention add x:",
    "repository list", "repository list --json", "repository list team/* --limit 1", "repository list a?",
    "repository tree", "repository tree team/ --json", "repository tree team/ --limit 1",
    "repository tree team", "repository tree none/",
    "repository show team/app", "repository show team/app --json", "repository show team/none",
    "repository delete team/web --dry-run", "repository delete team/web", "repository delete team/web",
    "repository restore team/web --dry-run", "repository restore team/web", "repository restore team/none",
    "repository restore team/web --json", "tag forget team/web --dry-run", "tag forget team/web",
    "image faces team/app:v1", "image faces team/app:v1 --json", "image faces team/app:none",
    "image show team/app:v1", "image show team/app:v1 --json", "image show team/app:none",
    f"image show team/app@{DIGESTS[2]} --platform linux/arm64", "image show Bad",
    "image compare team/app:v1 v1", "image compare team/app:v1 v1 --json", "image compare team/app:v1 none",
    "image files team/app:v1", "image files team/app:v1 --json", "image files team/app:v1 /a",
    "image files team/app:v1 --layer ffff", "image files team/app:none", "image diff team/app:v1",
    "image diff team/app:v1 --json", "image diff team/app:v1 none", "image diff team/app:v1 --layer x",
    "why team/app:v1", "why team/app:v1 --json", f"why {DIGESTS[0]}", f"why team/app@{DIGESTS[0]} --json",
    "why team/app:none", f"why sha256:{'0' * 64}", "why x", "inventory", "clients", "clients --json",
    "images check", "images check team/* --for v1 --json", "images check team/app --unsolved",
    "clients --summary", "clients --summary --json",
    "tasks preview retention", "tasks preview gc --json", "tasks preview scrub",
    "usage --depth 1 --brief", "growth", "growth --json", "growth --days 0",
    "v1 show", "v1 show --json", "v1 set readonly", "v1 set off --json", "v1 show", "clients --summary",
    "image faces team/app:v1", "v1 set on --json", "v1 set on", "v1 set half",
    "clients --since 1d", "clients --since 999999d", "upstreams", "upstreams --json",
    "audit none/*", "audit a?", "audit --account none --json", "audit --since x",
    "readonly status", "readonly on --reason moving", "readonly status --json",
    "readonly off", "readonly off",
    "account list", "account add alice --robot", "account add alice --robot --json", "account add B --robot",
    "account list --json", "account disable alice", "account disable alice --json", "account enable alice",
    "account enable none", "account unlock alice", "account unlock --address 10.0.0.1 --json",
    "account unlock --address x", "account unlock none", "group add dev alice", "group list",
    "group add dev! alice", "group list --json", "group remove dev alice", "group remove dev alice --json",
    "key add alice --note ci --expires 90d --scope repository:team/*:pull", "key add none",
    "key add alice --json", "key add alice --scope x", "key list", "key list --json", "key revoke x",
    "account logins alice", "account logins alice --json", "account logins none", "account logout none",
    "account logout alice --dry-run", "account logout alice", "account logout alice --keys --json",
    "token list", "token list --json", "token rotate --grace 1h", "token rotate --json", "token revoke x",
    "access list", "access grant alice team/* pull,push", "access grant @none team/* pull --json",
    "access grant alice team/* fly", "access list --json", "access explain alice team/app push",
    "access explain none team/app pull --json", "access revoke alice team/* push",
    "access revoke alice team/* --json", "access revoke alice team/*",
    "account remove alice --dry-run", "account remove alice --json", "account remove alice",
    "webhook list", "webhook add ci https://ci.example.com/hook?token=x --repository team/* --repository x",
    "webhook add ci https://ci.example.com/", "webhook add B http://x/", "webhook add a ftp://x/",
    "webhook add a http://user:pw@x/", "webhook add a http://x/ --repository Team",
    "webhook add all https://127.0.0.1:9/ --action delete --format docker --json", "webhook list",
    "webhook list --json", "webhook test all", "webhook test none", "webhook events ci",
    "webhook events ci --dead --json", "webhook events none", "webhook replay ci", "webhook replay none",
    "webhook replay ci --since 2020-01-01T00:00Z --dry-run", "webhook replay ci 999999",
    "webhook replay ci --since 2020-01-01T00:00Z --dry-run --json", "webhook replay ci --since x",
    "webhook replay ci 1 --since 2020-01-01", "webhook retry ci", "webhook retry ci --json",
    "webhook retry none", "webhook remove ci --dry-run", "webhook remove ci --dry-run --json",
    "webhook remove ci", "webhook remove all --json", "webhook remove ci",
]  # fmt: skip


def fill(data: Path) -> str:
    """Make a registry with tags of both generations; return ``ACCOUNT:KEY`` of an administrator."""
    settings = Settings(data=data, auth="accounts")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        for name in NAMES:
            with acting("alice", Api.V1):
                push_v1(registry, name, Tag("v1"), CHAIN)
            with acting("bob", Api.V2):
                for number, each in enumerate(IMAGES):
                    push_v2(registry, name, Tag("v1"), each)
                    push_v2(registry, name, Tag(f"pr-{number}"), each)
        accounts = accounts_of(registry)
        accounts.add("root", "correct horse")
        accounts.grant("root", "*", "admin,manage")
        key = accounts.add_key("root", limits="", note="")
        uses = KeyUses(catalog_of(registry), None)
        uses.record(key.id)
        uses.close()
        return f"root:{key.text}"


def invoke(line: str, *options: str, **environment: str) -> Result:
    """Run a command with global options before it."""
    env = {"DUALREG_CONFIG": None, **environment}
    return unannounced(CliRunner().invoke(main, [*options, *line.split()], env=env))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[Result, Result]]]:
    """Runs a command on this machine, and on a server with the same content."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "local").mkdir()
    (folder / "served").mkdir()
    fill(folder / "local")
    file = folder / "key"
    file.touch(mode=0o600)
    file.write_text(fill(folder / "served") + "\n")
    with dualreg_server(folder / "served", auth="accounts") as host:

        def run(line: str) -> tuple[Result, Result]:
            local = invoke(line, DUALREG_DATA=f"{folder / 'local'}", DUALREG_AUTH="accounts")
            return local, invoke(line, "--server", f"http://{host}", "--server-key", f"{file}")

        yield run


@pytest.mark.parametrize("line", LINES)
def test_a_server_does_the_same(both: Callable[[str], tuple[Result, Result]], line: str) -> None:
    """The same lines, on both streams, and the same exit status; only instants differ."""
    local, remote = both(line)
    shown = [
        (_CHANGING.sub("…", each.stdout), _CHANGING.sub("…", each.stderr), each.exit_code)
        for each in (local, remote)
    ]
    assert shown[0] == shown[1]
    assert not isinstance(remote.exception, Exception) or isinstance(remote.exception, SystemExit)


@pytest.mark.slow
def test_a_server_runs_tasks(both: Callable[[str], tuple[Result, Result]]) -> None:
    """In a process beside it; the command waits for its end, and the list has the result."""
    local, remote = both("tasks run scrub --json")
    assert json.loads(remote.stdout)["result"].startswith(json.loads(local.stdout)["result"])
    local, remote = both("tasks --json")
    names = [[each["name"] for each in json.loads(result.stdout)] for result in (local, remote)]
    assert names[0] == names[1]
    (scrub,) = [each for each in json.loads(remote.stdout) if each["name"] == "scrub"]
    assert "verified" in scrub["result"]
    assert scrub["ended_at"]
    local, remote = both("tasks run none")
    assert local.output == remote.output
    assert local.output.startswith('Error: unknown task "none"')


def test_every_command_runs_on_a_server_or_says_why_not() -> None:
    """Each is in the table of operations, or in the list of those that are for the machine; none in both."""
    every = {path.removeprefix("dualreg ") for path in commands(main, "dualreg")}
    offered = {each.command for each in OPERATIONS}
    groups = {"tasks"}
    local = {name for name in every if any(f"{name} ".startswith(f"{each} ") for each in LOCAL)}
    assert offered | local == every | (offered & groups)
    assert offered & local == set()
    assert all(any(f"{name} ".startswith(f"{each} ") for name in every) for each in LOCAL)


def test_names_of_operations_are_unique() -> None:
    """So are methods of paths."""
    assert len({each.name for each in OPERATIONS}) == len(OPERATIONS)
    assert len({(each.method, each.path) for each in OPERATIONS}) == len(OPERATIONS)


@pytest.mark.parametrize("command", [*commands(main, "dualreg")])
def test_local_commands_say_why(command: str) -> None:
    """In one line, before anything else is looked at; the others ask for a key first."""
    name = command.removeprefix("dualreg ")
    result = invoke(name, "--server", "https://registry.example.com")
    reason = why_local(name)
    if reason:
        assert result.output == f"Error: {command} cannot run on a server: {reason}\n"
        assert result.exit_code == 1
    else:
        assert "cannot run on a server" not in result.output


@pytest.mark.parametrize(
    ("url", "key", "mode", "said"),
    [
        ("http://registry.example.com", "root:key", 0o600, "sent in the clear; use https"),
        ("ftp://registry", "root:key", 0o600, "not http or https"),
        ("https://127.0.0.1:1", "key", 0o600, "expected ACCOUNT:KEY"),
        ("https://127.0.0.1:1", "root:key", 0o644, "chmod 600"),
        ("https://127.0.0.1:1", "root:key", None, "No such file"),
        ("https://127.0.0.1:1", "root:key", 0o600, "refused"),
    ],
)
def test_what_is_wrong_with_the_server_is_said(
    tmp_path: Path, url: str, key: str, mode: int | None, said: str
) -> None:
    """The key is never printed, nor sent where others can read it."""
    file = tmp_path / "key"
    if mode is not None:
        file.write_text(key)
        file.chmod(mode)
    result = invoke("immutable list", "--server", url, "--server-key", f"{file}")
    assert said in result.output
    assert "root:key" not in result.output
    assert result.exit_code == 1


@pytest.mark.slow
def test_https_and_refusals(tmp_path: Path) -> None:
    """By a CA of one's choice, with all of it in the environment; refusals are in the words of the server."""
    chain, private = make_certificate(tmp_path, "registry")
    data = tmp_path / "data"
    data.mkdir()
    key = fill(data)
    host, log = f"127.0.0.1:{free_port()}", tmp_path / "log"
    options = ["--bind", host, "--data", data, "--tls-cert", chain, "--tls-key", private]
    with running([DUALREG, "serve", *options], log, {"DUALREG_AUTH": "accounts"}) as process:
        wait_for(lambda: served(host), process, log)
        trusting = {"DUALREG_SERVER": f"https://{host}", "DUALREG_SERVER_CA": f"{chain}"}
        trusting["DUALREG_SERVER_KEY"] = key
        assert invoke("tag set team/app:new v1", **trusting).exit_code == 0
        assert "api  root" in invoke("tag history team/app:new", **trusting).stdout
        assert json.loads(invoke("immutable list --json", **trusting).stdout) == []
        assert "certificate" in invoke("immutable list", **trusting | {"DUALREG_SERVER_CA": ""}).output
        wrong = invoke("immutable list", **trusting | {"DUALREG_SERVER_KEY": "root:wrong"})
        assert wrong.output == f"Error: https://{host}/api/v1/immutable: invalid account or password\n"
        both = invoke(f"immutable list --data {data}", **trusting)
        assert "--data and --config are for this machine" in both.output


@pytest.mark.slow
def test_groups_show_their_help() -> None:
    """Without a key, whatever the server."""
    for name in ("tag", "quota", "retention"):
        assert invoke(f"{name} --help", "--server", "https://x").exit_code == 0
    assert isinstance(main, click.Group)
