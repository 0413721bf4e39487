"""The commands for accounts and permissions, as an operator types them, while a registry serves."""

import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.auth.attempts import Attempts
from dualreg.auth.keyring import Keyring
from dualreg.catalog.database import Catalog
from dualreg.cli import main
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings
from tests import builders
from tests.auth.conftest import basic
from tests.migrate.trees import Tree
from tests.programs import DUALREG, dualreg_process, environment, free_port, running, unannounced, until
from tests.protocol.clients.wire import Wire

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a command over the registry in one data folder; it must exit with *code*."""
    prepare(Settings(data=tmp_path / "data"))

    def command(line: str, *, input: str | None = None, code: int = 0) -> Result:
        words, env = [*line.split(), "--data", str(tmp_path / "data")], {"DUALREG_CONFIG": None}
        result = unannounced(CliRunner().invoke(main, words, input=input, env=env))
        assert result.exit_code == code, result.output
        if code:
            assert "Traceback" not in result.output
        return result

    return command


@pytest.mark.slow
def test_accounts_are_added_and_removed(run: Run) -> None:
    """Each command prints what it did and what to do next."""
    assert "account add" in run("account list").output
    added = run("account add alice --password-stdin", input="a password\n")
    assert "dualreg access grant alice" in added.output
    assert "already" in run("account add alice --password-stdin", input="a password\n", code=1).output
    run("account add bob", input="a password\na password\n")
    assert "dualreg key add ci" in run("account add ci --robot").output
    run("group add dev alice")
    listed = json.loads(run("account list --json").output)
    assert [(each["name"], each["robot"]) for each in listed] == [
        ("alice", False),
        ("bob", False),
        ("ci", True),
    ]
    assert "hash" not in str(listed)
    assert json.loads(run("group list --json").output) == [{"group": "dev", "account": "alice"}]
    assert re.search(r"alice +person +\S+ +dev +-\n", run("account list").output)
    run("account password alice --password-stdin", input="a new password\n")
    assert "forgot 0 failed logins" in run("account unlock alice").output
    assert "no account eve" in run("account unlock eve", code=1).output
    assert "Unlocked 2001:db8::7: forgot 0" in run("account unlock --address 2001:db8::7").output
    assert "192.0.2" in run("account unlock --address 192.0.2", code=1).output
    for line in ("account unlock", "account unlock alice --address 192.0.2.1"):
        assert "give either NAME or --address" in run(line, code=2).output
    assert "robot" in run("account password ci --password-stdin", input="a password\n", code=1).output
    run("access grant alice team/* pull")
    assert run("account remove alice --dry-run").output.startswith("Would remove alice and 1")
    assert run("account remove alice").output.startswith("Removed alice and 1")
    for line in ("remove alice", "remove alice --dry-run", "password alice --password-stdin"):
        assert "no account alice" in run(f"account {line}", input="a password\n", code=1).output
    assert run("access list --json").output.strip() == "[]"
    assert "@dev" not in run("group list").output
    assert run("group list --json").output == "[]\n"


@pytest.mark.slow
def test_accounts_are_disabled_and_enabled(run: Run, tmp_path: Path) -> None:
    """The list says so, and which are locked; each command prints the same as JSON."""
    assert json.loads(run("account add alice --robot --json").output) == {"account": "alice", "robot": True}
    assert "within a minute" in run("account disable alice").output
    assert "alice is disabled already" in run("account disable alice").output
    assert re.search(r"alice +robot +\S+ +- +disabled since \d{4}-\d\d-\d\d\n", run("account list").output)
    (listed,) = json.loads(run("account list --json").output)
    assert listed["disabled_at"]
    for line, changed in (("enable", True), ("enable", False), ("disable", True)):
        printed = json.loads(run(f"account {line} alice --json").output)
        assert printed == {"account": "alice", "disabled": line == "disable", "changed": changed}
    assert run("account enable alice").output == "Enabled alice.\n"
    for line in ("enable", "disable"):
        assert "no account eve" in run(f"account {line} eve", code=1).output
    with closing(Catalog(Settings(data=tmp_path / "data").database_url)) as catalog:
        attempts = Attempts(catalog, keyring=Keyring(catalog))
        for network, count in (("192.0.2.1", 11), ("192.0.2.2", 12), ("192.0.2.3", 2)):
            for number in range(count):
                attempts.failed("alice", network, f"{network} {number}")
        assert re.search(r"alice .* locked from 2 addresses\n", run("account list").output)
        for number in range(200):
            attempts.failed("alice", "192.0.2.3", f"{number}")
    assert re.search(r"alice .* locked\n", run("account list").output)
    (listed,) = json.loads(run("account list --json").output)
    assert (listed["locked"], listed["locked_networks"]) == (True, 3)
    assert json.loads(run("account unlock alice --json").output)["failures"] > 200
    assert re.search(r"alice .* -\n", run("account list").output)
    for line, printed in (
        ("group add dev alice", {"group": "dev", "account": "alice"}),
        ("group remove dev alice", {"group": "dev", "account": "alice"}),
        ("account remove alice --dry-run", {"account": "alice", "rules": 0, "dry_run": True}),
        ("account remove alice", {"account": "alice", "rules": 0, "dry_run": False}),
    ):
        assert json.loads(run(f"{line} --json").output) == printed


def test_keys_and_rules_print_json(run: Run) -> None:
    """The same facts as the text."""
    run("account add ci --robot")
    made = json.loads(run("key add ci --expires 1d --json").output)
    assert (made["account"], made["secret"][4:20]) == ("ci", made["id"])
    (listed,) = json.loads(run("key list --json").output)
    assert (listed["id"], listed["used_at"]) == (made["id"], None)
    assert re.search(rf"{made['id']} +ci +\S+ +\S+ \S+ +- +- +-\n", run("key list").output)
    rule = {"who": "ci", "pattern": "x/*", "actions": ["manage", "pull"]}
    assert json.loads(run("access grant ci x/* pull,manage --json").output) == rule
    assert run("access list").output.startswith("WHO  PATTERN  ACTIONS\nci   x/*      pull,manage\n")
    assert json.loads(run("access revoke ci x/* pull --json").output) == rule | {"actions": ["manage"]}
    assert json.loads(run("access revoke ci x/* --json").output) == rule | {"actions": []}
    assert json.loads(run(f"key revoke {made['id']} --json").output) == {"account": "ci", "id": made["id"]}
    assert json.loads(run("token rotate --grace 1h --json").output)["grace"] == "1h"


def test_accounts_of_a_file_are_disabled_there(run: Run, tmp_path: Path, monkeypatch: Any) -> None:
    """The command says so; robots are the catalog's."""
    (tmp_path / "htpasswd").write_text("alice:$2b$04$" + "." * 53 + "\n")
    monkeypatch.setenv("DUALREG_AUTH", "htpasswd")
    monkeypatch.setenv("DUALREG_HTPASSWD", str(tmp_path / "htpasswd"))
    run("account add ci --robot")
    assert "remove its line there" in run("account disable alice", code=1).output
    assert "Disabled ci" in run("account disable ci").output


@pytest.mark.parametrize(
    "name", ["", "a:b", "A", "a b", "anonymous", "authenticated", "@a", "../a", "a" * 65, "é"]
)
def test_invalid_names(tmp_path: Path, name: str) -> None:
    """They are refused with one line."""
    command = ["account", "add", name, "--robot", "--data", str(tmp_path / "data")]
    result = CliRunner().invoke(main, command, env={"DUALREG_CONFIG": None})
    assert (result.exit_code, "invalid account name" in result.output) == (1, True)


@pytest.mark.parametrize("password", ["", "x", "é", "x" * 73, "é" * 37])
def test_invalid_passwords(run: Run, password: str) -> None:
    """One character is a typing mistake; bcrypt would truncate the long ones."""
    assert "password" in run("account add alice --password-stdin", input=f"{password}\n", code=1).output
    assert "No accounts" in run("account list").output


@pytest.mark.parametrize(("password", "warnings"), [("seven77", 1), ("é" * 7, 1), ("eight888", 0)])
def test_short_passwords(run: Run, password: str, warnings: int) -> None:
    """They are accepted with a warning, as accounts are made and as passwords are changed."""
    for command in ("account add alice --password-stdin", "account password alice --password-stdin"):
        assert run(command, input=f"{password}\n").stderr.count("is easy to guess") == warnings


@pytest.mark.slow
def test_rules_are_granted_explained_and_revoked(run: Run) -> None:
    """A rule grows and shrinks; explain names it."""
    why = "access explain alice team/app"
    assert "no account" not in run("account add alice --robot").output
    assert run("access grant alice team/* pull").output.startswith("alice team/* pull\n")
    assert "once the registry serves" in run("access grant alice team/* push").output
    assert run(f"{why} delete").output.startswith("yes: auth = none")
    shown = {"DUALREG_AUTH": "accounts"}
    for action, answer in (
        ("pull", "yes: by the rule alice team/* pull,push"),
        ("push", "yes: by the rule alice team/* pull,push"),
        ("delete", "no: no rule allows it"),
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DUALREG_AUTH", shown["DUALREG_AUTH"])
            assert run(f"{why} {action}").output.strip() == answer
            result = json.loads(run(f"{why} {action} --json").output)
            assert result["allowed"] is answer.startswith("yes")
    assert "Remaining rule: alice team/* pull" in run("access revoke alice team/* push").output
    assert "Removed" in run("access revoke alice team/*").output
    assert "no rule" in run("access revoke alice team/*", code=1).output
    assert "fly" in run("access grant alice x fly", code=1).output
    assert "invalid repository name" in run("access explain alice A pull", code=1).output
    assert "No rules" in run("access list").output


@pytest.mark.parametrize(
    ("who", "repository", "line"),
    [
        ("anonymous", "public/x", "anonymous public/* pull"),
        ("alice", "public/x", "anonymous public/* pull"),
        ("alice", "home/alice", "authenticated home/{account} pull"),
        ("alice", "home/bob", None),
        ("alice", "ops", "@ops ops pull"),
        ("@ops", "ops", "@ops ops pull"),
        ("anonymous", "ops", None),
        ("anonymous", "home/alice", None),
    ],
)
def test_explain_considers_groups_and_everybody(
    run: Run, monkeypatch: pytest.MonkeyPatch, who: str, repository: str, line: str | None
) -> None:
    """And the name of the account in a pattern."""
    monkeypatch.setenv("DUALREG_AUTH", "accounts")
    for each in ("anonymous public/* pull", "authenticated home/{account} pull", "@ops ops pull"):
        run(f"access grant {each}")
    run("group add ops alice")
    assert "(there is no account alice)" in run("access explain alice nowhere pull").output
    result = json.loads(run(f"access explain {who} {repository} pull --json").output)
    assert result["line"] == line


def test_a_file_of_rules_is_not_changed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that would change ignored rules name the file with those in effect."""
    file = tmp_path / "lines"
    file.write_text("alice x pull\n")
    monkeypatch.setenv("DUALREG_PERMISSIONS", str(file))
    monkeypatch.setenv("DUALREG_AUTH", "accounts")
    assert run("access explain alice x pull").output.startswith("yes")
    for line in ("grant alice x push", "revoke alice x"):
        assert str(file) in run(f"access {line}", code=1).output
    assert str(file) in run("access list").stderr
    file.write_text("nonsense\n")
    assert "line 1" in run("access explain alice x pull", code=1).output


@pytest.mark.slow
def test_keys_and_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is printed once, alone; lists show its note but not the key."""
    monkeypatch.setenv("DUALREG_AUTH", "accounts")
    run("account add ci --robot")
    made = run("key add ci --expires 90d --scope repository:a/*:pull --note nightly")
    secret = made.stdout.strip()
    assert re.fullmatch(r"drk_[0-9a-f]{16}_[\w-]{43}", secret)
    id_ = secret.split("_")[1]
    assert id_ in made.stderr
    (listed,) = json.loads(run("key list --json").output)
    assert (listed["id"], listed["note"], listed["limits"]) == (id_, "nightly", "repository:a/*:pull")
    assert secret not in run("key list").output + str(listed)
    assert "no account" in run("key add nobody", code=1).output
    for wrong in ("--scope x", "--scope repository:A:pull", "--scope repository:a:fly", "--expires soon"):
        run(f"key add ci {wrong}", code=1)
    assert "Revoked" in run(f"key revoke {id_}").output
    assert "no key" in run(f"key revoke {id_}", code=1).output
    assert run("token list").output == "0 refresh tokens.\n"
    assert "no refresh" in run("token revoke x", code=1).output
    assert "Older keys still accepted: 1, for 24h." in run("token rotate").output
    assert "Older keys still accepted: 2, for 12h." in run("token rotate --grace 12h").output
    assert "No older key" in run("token rotate --grace 0s").output
    run("token rotate --grace soon", code=1)


def test_every_change_is_in_the_audit_log(run: Run, tmp_path: Path) -> None:
    """With the command and the Unix user who ran it; never a secret."""
    run("account add alice --password-stdin", input="hush hush\n")
    run("access grant alice x pull")
    key = run("key add alice").stdout.strip()
    run("token rotate")
    run("account remove alice")
    text = (tmp_path / "data" / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    commands = ["account add", "access grant", "key add", "token rotate", "account remove"]
    assert [line["command"] for line in lines] == commands
    assert {line["event"] for line in lines} == {"admin"}
    assert "uid" in lines[0]
    assert "hush" not in text
    assert key not in text


def test_a_log_on_the_console_leaves_the_output_alone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs read the output."""
    monkeypatch.setenv("DUALREG_AUDIT", "-")
    assert '"command": "account add"' in run("account add ci --robot").stderr
    assert re.fullmatch(r"drk_\S+\n", run("key add ci").stdout)


@pytest.mark.slow
def test_changes_of_content_are_in_the_audit_log(run: Run, tmp_path: Path) -> None:
    """Deleted repositories and uploads, and migrations; dry runs are not."""
    settings = Settings(data=tmp_path / "data", upload_ttl=timedelta(0))
    prepare(settings)
    registry = open_registry(settings)
    registry.bridge.prepare(RepositoryName("x"))
    registry.uploads.start(RepositoryName("x"))
    tree = Tree(tmp_path / "old")
    tree.tag("library/y", "latest", tree.image("a", builders.layer({"a": b"1"})))
    (tmp_path / "dualreg.toml").write_text('upload_ttl = "0s"\n')
    for line in ("gc --dry-run", "gc", "gc", "repository delete x --dry-run", "repository delete x"):
        run(f"{line} --config {tmp_path / 'dualreg.toml'}")
    source = f"v1-tree:{tree.root}"
    for line in (f"migrate run {source} --dry-run", f"migrate run {source}"):
        run(line)
    (journal,) = (tmp_path / "data" / "migrations").glob("*.jsonl")
    for line in (f"migrate rollback {journal.stem} --dry-run", f"migrate rollback {journal.stem}"):
        run(line)
    registry.close()
    text = (tmp_path / "data" / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "uid"} < line.keys() for line in lines)
    result = [
        {key: value for key, value in line.items() if key not in {"time", "uid", "event"}} for line in lines
    ]
    assert result == [
        {"command": "gc", "discarded": 1, "blobs": 0, "bytes": 0},
        {"command": "repository delete", "repository": "x", "tags": 0},
        {"command": "migrate run", "run": journal.stem, "source": source},
        {"command": "migrate rollback", "run": journal.stem, "tags": 1, "images": 1, "blobs": 4},
    ]


@pytest.mark.parametrize("line", ["account add ci --robot", "gc", "repository delete x"])
def test_without_the_audit_log_nothing_is_changed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """The command fails with one line."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DUALREG_AUDIT", str(tmp_path / "file" / "audit"))
    assert "cannot write the audit log" in run(line, code=1).output
    monkeypatch.setenv("DUALREG_AUDIT", "off")
    assert "No accounts" in run("account list").output


@pytest.mark.slow
def test_commands_work_while_the_registry_serves(run: Run, tmp_path: Path) -> None:
    """Their changes take effect with the next request, in every process."""
    with dualreg_process(tmp_path / "data", auth="accounts", workers=2) as serving:
        wire = Wire(serving.host)
        alice = basic("alice", "a password")
        assert wire.send("GET", "/v2/", alice).status == 401
        run("account add alice --password-stdin", input="a password\n")
        for _ in range(4):
            assert wire.send("GET", "/v2/", alice).status == 200
            assert wire.send("GET", "/v2/a/b/tags/list", alice).status == 403
        run("access grant alice a/* pull")
        for _ in range(4):
            assert wire.send("GET", "/v2/a/b/tags/list", alice).status == 404
        run("access revoke alice a/*")
        for _ in range(4):
            assert wire.send("GET", "/v2/a/b/tags/list", alice).status == 403
        run("account password alice --password-stdin", input="a new password\n")
        for _ in range(4):
            assert wire.send("GET", "/v2/", alice).status == 401
            assert wire.send("GET", "/v2/", basic("alice", "a new password")).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "", "192.0.2.1"])
def test_an_open_registry_has_to_be_configured(tmp_path: Path, host: str) -> None:
    """On any address but loopback it is refused, with the setting to write."""
    bind = f"{host}:{free_port()}"
    result = CliRunner().invoke(main, ["serve", "--bind", bind, "--data", str(tmp_path / "data")], env={})
    assert result.exit_code == 1
    assert "auth = none" in result.output
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_an_open_registry_that_is_configured(tmp_path: Path) -> None:
    """It serves, with a warning."""
    bind, log = f"0.0.0.0:{free_port()}", tmp_path / "log"
    command = [DUALREG, "serve", "--bind", bind, "--data", tmp_path / "data", "--auth", "none"]
    with running(command, log, environment()):
        assert until(lambda: "anyone who can reach it may push and delete" in log.read_text())


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"auth": "htpasswd", "htpasswd": "absent"}, "absent"),
        ({"auth": "accounts", "permissions": "absent"}, "absent"),
        (
            {"auth": "token", "token_realm": "https://x", "token_issuer": "x", "token_keys": "absent"},
            "absent",
        ),
        ({"auth": "accounts", "permissions": "broken"}, "line 1"),
        ({"auth": "htpasswd"}, "htpasswd"),
        ({"oidc_issuer": "https://x", "oidc_rules": "x"}, "invalid rule"),
    ],
    ids=repr,
)
def test_unusable_files_are_reported_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], word: str
) -> None:
    """With one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken").write_text("nonsense\n")
    env = {f"DUALREG_{name.upper()}": value for name, value in settings.items()}
    result = CliRunner().invoke(main, ["serve", "--data", str(tmp_path / "data")], env=env)
    assert (result.exit_code, word in result.output) == (1, True), result.output
    assert "Traceback" not in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("line", ["gc", "clients"])
def test_commands_without_accounts_read_no_such_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """A broken or missing file of accounts does not prevent maintenance."""
    (tmp_path / "broken").write_text("nonsense\n")
    monkeypatch.setenv("DUALREG_AUTH", "htpasswd")
    monkeypatch.setenv("DUALREG_HTPASSWD", str(tmp_path / "absent"))
    monkeypatch.setenv("DUALREG_PERMISSIONS", str(tmp_path / "broken"))
    run(line)


@pytest.mark.parametrize(
    ("who", "warning"),
    [
        ("@devs", "group @devs yet; add accounts to it with `dualreg group add`"),
        ("@dev", None),
        ("@builds", None),
        ("alice", "account alice yet"),
        ("bob", None),
        ("anonymous", None),
        ("authenticated", None),
    ],
)
@pytest.mark.parametrize("auth", ["none", "accounts"])
def test_a_rule_for_what_does_not_exist_is_warned_of(
    run: Run, monkeypatch: pytest.MonkeyPatch, who: str, warning: str | None, auth: str
) -> None:
    """It is added: the account or the group may be added later."""
    monkeypatch.setenv("DUALREG_AUTH", auth)
    monkeypatch.setenv("DUALREG_OIDC_ISSUER", "https://ci.example")
    monkeypatch.setenv("DUALREG_OIDC_RULES", "@builds if ref=main")
    run("account add bob --robot")
    run("group add dev bob")
    granted = run(f"access grant {who} x pull")
    assert granted.stdout.startswith(f"{who} x pull\n")
    assert granted.stderr == (f"Warning: there is no {warning}.\n" if warning else "")
