"""Which registry commands work on: each says so, and only some make one."""

import json
import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.errors import CatalogUnreachable
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.faults.test_faults import REPOSITORY, pull_v2, push_v2
from tests.maintenance.test_catalog_check import NEWER
from tests.migrate import stock_trees
from tests.programs import require_root

#: Commands over an existing registry, and the first words of the error of those that need one.
NEEDING_ONE = (
    "account list", "account password alice --password-stdin", "account remove alice", "group list",
    "group add dev alice", "group remove dev alice", "access list", "access grant alice x pull",
    "access revoke alice x", "access explain alice x pull", "key list", "key add alice", "key revoke x",
    "token list", "token revoke x", "token rotate", "repository show x",
    "repository delete x", "repository list", "clients", "clients --json",
    "readonly on --reason x", "readonly off", "readonly status",
    "gc", "gc --dry-run", "why x:1", "fsck", "fsck --repair", "db rebuild", "db rebuild --dry-run",
    "db current", "db current --json", "db check", "db copy sqlite:///x --dry-run",
    "export oci-layout:out", "migrate verify registry-tree:absent",
)  # fmt: skip


def run(folder: Path, line: str, **env: str | None) -> Result:
    """Run a command in *folder*, with a password on standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(
            main, line.split(), env={"DUALREG_CONFIG": None, **env}, input="a password\n"
        )


@pytest.mark.sqlite
@pytest.mark.parametrize("line", NEEDING_ONE)
def test_only_what_adds_content_creates_a_registry(tmp_path: Path, line: str) -> None:
    """In the wrong directory, anything else says which directory it meant, and leaves nothing there."""
    result = run(tmp_path, line)
    assert result.exit_code != 0
    assert result.stdout == ""
    first, error, *_ = result.stderr.splitlines()
    assert first == f"Registry: {tmp_path}/dualreg-data (default)"
    assert error.startswith(f"Error: there is no registry in {tmp_path}/dualreg-data; `dualreg serve`")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("line", ["account add ci --robot", "db upgrade"])
def test_some_commands_create_a_registry(tmp_path: Path, line: str) -> None:
    """The first account can be added before the registry serves."""
    assert run(tmp_path, line).exit_code == 0
    assert (tmp_path / "dualreg-data/catalog.sqlite3").exists()
    assert json.loads(run(tmp_path, "clients --json").stdout) == []


@pytest.mark.parametrize(
    ("line", "env", "origin"),
    [
        ("clients --json --data data", {}, "--data"),
        ("clients --json", {"DUALREG_DATA": "data"}, "DUALREG_DATA"),
        ("clients --json --config etc/own.toml", {}, "data in etc/own.toml"),
        ("config show --json --data data", {}, "--data"),
        ("migrate report --list --json --data data", {}, "--data"),
    ],
)
def test_every_command_says_which_registry_it_means(
    tmp_path: Path, line: str, env: dict[str, str], origin: str
) -> None:
    """And what chose it; on standard error, so that programs can read the rest."""
    prepare(Settings(data=tmp_path / "data"))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/own.toml").write_text('data = "../data"\n')
    result = run(tmp_path, line, **env)
    json.loads(result.stdout)
    chosen = "etc/../data" if "own" in origin else "data"
    assert result.stderr == f"Registry: {tmp_path}/{chosen} ({origin})\n"


@pytest.fixture
def lost(tmp_path: Path) -> Settings:
    """A registry whose catalog was deleted."""
    settings = Settings(data=tmp_path / "its data")
    prepare(settings)
    registry = open_registry(settings)
    assert push_v2(client_of(registry))
    registry.close()
    for file in settings.data.glob("catalog*"):
        file.unlink()
    return settings


def test_a_lost_catalog_is_not_served(lost: Settings) -> None:
    """Nor does anything else start with an empty one; the error has a command that mends it."""
    for _ in range(2):
        with pytest.raises(CatalogUnreachable, match="the catalog is empty, but the store is not") as error:
            prepare(lost)
    command = str(error.value).rpartition("  dualreg ")[2]
    assert command == f"db rebuild --data '{lost.data}'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUALREG_CONFIG", "/dev/null")
        done = CliRunner().invoke(main, shlex.split(command))
    assert done.exit_code == 0, done.output
    prepare(lost)
    registry = open_registry(lost)
    assert pull_v2(client_of(registry))
    registry.close()


def test_an_empty_catalog_is_served_where_it_is_meant(lost: Settings, tmp_path: Path) -> None:
    """Over a store without tags, or one that is imported on demand."""
    prepare(lost.model_copy(update={"legacy_source": f"registry-tree:{lost.data}"}))
    with pytest.raises(CatalogUnreachable):
        prepare(lost.model_copy(update={"legacy_source": f"registry-tree:{tmp_path / 'other'}"}))
    settings = Settings(data=tmp_path / "deleted")
    prepare(settings)
    registry = open_registry(settings)
    assert push_v2(client_of(registry))
    registry.repositories.delete(REPOSITORY)
    registry.close()
    prepare(settings)


@pytest.mark.parametrize("line", ["serve", "account list", "db upgrade"])
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://me:secret@h/db", 'unknown database "mysql"'),
        ("nonsense", "invalid URL of a database"),
        ("postgresql+nothing://me:secret@h/db", 'unknown driver in "postgresql+nothing"'),
        ("postgresql+pg8000://me:secret@h/db", 'unknown driver in "postgresql+pg8000"'),
    ],
)
def test_an_unusable_database_is_refused_in_a_sentence(
    tmp_path: Path, line: str, url: str, reason: str
) -> None:
    """Which names what is expected, and repeats no password."""
    result = run(tmp_path, line, DUALREG_DATABASE=url)
    error = result.stderr.splitlines()[-1]
    assert result.exit_code in (1, 2)
    assert error.startswith(f"Error: {reason}"), result.output
    assert "sqlite:///PATH or postgresql+psycopg://" in error
    assert "secret" not in result.output


@pytest.mark.sqlite
@pytest.mark.parametrize("line", ["serve", "account list", "db upgrade"])
def test_a_newer_catalog_is_refused_in_a_sentence(tmp_path: Path, line: str) -> None:
    """An older version may not know what the newer one relies on."""
    settings = Settings(data=tmp_path / "dualreg-data")
    prepare(settings)
    with closing(sqlite3.connect(settings.data / "catalog.sqlite3")) as connection, connection:
        connection.executescript(NEWER)
    result = run(tmp_path, line)
    error = result.stderr.splitlines()[-1]
    assert result.exit_code in (1, 2)
    assert error.startswith("Error: the catalog is at revision 9999; a newer version of dualreg made it")


@pytest.mark.sqlite
def test_root_leaves_the_owner_of_the_directory(tmp_path: Path) -> None:
    """What commands of root create in the directory of a service, the service can write."""
    require_root()
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 65534, 65533)
    stock = stock_trees.small(tmp_path / "stock")
    stock.image("team/app", builders.image(builders.layer({"a": b"1"})), "1")
    for line in ("account add ci --robot", f"migrate run registry-tree:{stock.root} --include team/app"):
        assert run(tmp_path, f"{line} --data {home / 'data'}").exit_code == 0
    found = {path: (path.stat().st_uid, path.stat().st_gid) for path in home.rglob("*")}
    assert {path.name for path in found} > {"data", "catalog.sqlite3", "audit.jsonl", "migrations", "uploads"}
    assert {path: owner for path, owner in found.items() if owner != (65534, 65533)} == {}


SECRET_URLS = {
    "postgresql+psycopg://me:pa/ss@h:ush@host/db?sslmode=require": (
        "postgresql+psycopg://me:***@host/db?sslmode=require"
    ),
    "postgresql://host/db?user=me&password=hush&x=1": "postgresql://host/db?user=me&password=***&x=1",
    "postgresql://me:hu?sh#@host/db?sslpassword=hush": "postgresql://me:***@host/db?sslpassword=***",
    "postgresql://me@host/db": "postgresql://me@host/db",
    "sqlite:////srv/a@b/catalog.sqlite3": "sqlite:////srv/a@b/catalog.sqlite3",
}


@pytest.mark.parametrize("url", SECRET_URLS)
def test_what_config_show_prints_is_no_secret(tmp_path: Path, url: str) -> None:
    """Whatever is in a password, and wherever a URL has it."""
    shown = json.loads(run(tmp_path, "config show --json", **variables({"database": url})).stdout)
    assert shown["database"]["value"] == SECRET_URLS[url]


@pytest.mark.parametrize("user", ["hush@", "me:hu/sh@", "me:h@ush@", ""])
def test_nor_is_the_url_of_keys(tmp_path: Path, user: str) -> None:
    """Whose user may be a token."""
    chosen = {"token_keys": f"https://{user}host/keys?access_token=hush"}
    assert (
        "sh"
        not in json.loads(run(tmp_path, "config show --json", **variables(chosen)).stdout)["token_keys"][
            "value"
        ]
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"token_ttl": "90s", "token_leeway": "0s", "upload_ttl": "36h", "workers": "3", "delete": "false"},
        {"upload_ttl": "7d", "access_log": "off", "notice": "1", "permissions": "rules", "bind": "25501"},
    ],
    ids=repr,
)
def test_what_config_show_prints_can_be_read_back(tmp_path: Path, chosen: dict[str, str]) -> None:
    """As a configuration file, and as variables: every setting has the same value again."""
    shown = json.loads(run(tmp_path, "config show --json", **variables(chosen)).stdout)
    values = {name: each["value"] for name, each in shown.items() if each["value"] is not None}
    text = {name: str(value) for name, value in values.items()}
    again = run(tmp_path, "config show --json", **variables(text))
    assert {name: each["value"] for name, each in json.loads(again.stdout).items()} == {
        name: each["value"] for name, each in shown.items()
    }
    file = tmp_path / "again.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    paths = {"data", "permissions"}  # relative to the file
    read, wanted = Settings.from_env({}, config=file), Settings.from_env(variables(chosen))
    assert read.model_dump(exclude=paths) == wanted.model_dump(exclude=paths)


def variables(settings: dict[str, str]) -> dict[str, str]:
    """Return the environment that makes these settings."""
    return {f"DUALREG_{name.upper()}": value for name, value in settings.items()}


def test_json_has_digests_and_times_as_on_the_wire(tmp_path: Path) -> None:
    """So that a program can ask the registry for what a command lists."""
    settings = Settings(data=tmp_path / "dualreg-data")
    prepare(settings)
    registry = open_registry(settings)
    client = client_of(registry)
    assert push_v2(client)
    (wire,) = client.get(f"/v2/{REPOSITORY}/_dualreg/tags").json["tags"]
    registry.close()
    (shown,) = json.loads(run(tmp_path, f"repository show {REPOSITORY} --json").stdout)
    assert (shown["digest"], shown["pushed_at"]) == (wire["digest"], wire["pushed"])
    assert isinstance(shown["size"], int)
