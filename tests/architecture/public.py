"""What people and scripts outside rely on: names of options, settings, columns, and keys of what is written.

Keys are learnt by running every command that writes JSON over a small registry, not by reading the source.
"""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from flask.testing import FlaskClient

from dualreg.cli import main
from dualreg.image.names import UploadId
from dualreg.settings import Settings
from dualreg.web import context
from dualreg.web.app import create_app
from tests import builders
from tests.migrate import stock_trees
from tests.migrate.trees import LAYERS, Tree
from tests.protocol.exchange import push_blob

#: Mappings whose keys are data, not names of ours: where they stand, and what their keys are.
_BY_DATA = {
    "counts": "STATUS",
    "wrong": "TAG",
    "skipped": "TAG",
    "rows": "TABLE",
    "tables": "TABLE",
}

Names = Mapping[str, object]


def public_names(folder: Path) -> Names:
    """Return every name, by sort.

    Args:
        folder: An empty one, to work in.
    """
    seen = Seen(folder)
    seen.run_everything()
    return {
        "options": {path: sorted(names) for path, names in _options(main, "dualreg")},
        "choices": dict(sorted(_choices(main, "dualreg"))),
        "settings": sorted(Settings.model_fields),
        "tables": dict(sorted(_tables())),
        "findings": _values("dualreg.migrate.findings"),
        "plan actions": _values("dualreg.migrate.plan"),
        "statuses": _values("dualreg.migrate.run", with_value="done"),
        "json": {line: sorted(keys) for line, keys in sorted(seen.output.items())},
        "csv": dict(sorted(seen.columns.items())),
        "plan": sorted(seen.plan),
        "journal": {event: sorted(keys) for event, keys in sorted(seen.journal.items())},
        "audit": {event: sorted(keys) for event, keys in sorted(seen.audit.items())},
    }


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from _commands(below, f"{path} {name}")


def _options(command: click.Command, path: str) -> Iterator[tuple[str, list[str]]]:
    for name, each in _commands(command, path):
        options = [parameter for parameter in each.params if isinstance(parameter, click.Option)]
        yield name, [flag for option in options for flag in (*option.opts, *option.secondary_opts)]


def _choices(command: click.Command, path: str) -> Iterator[tuple[str, list[str]]]:
    for name, each in _commands(command, path):
        for parameter in each.params:
            if isinstance(parameter.type, click.Choice):
                yield f"{name} {parameter.opts[0]}", sorted(map(str, parameter.type.choices))


def _tables() -> Iterator[tuple[str, list[str]]]:
    metadata = import_module("dualreg.catalog.tables").Table.metadata
    for name, table in metadata.tables.items():
        yield name, sorted(column.name for column in table.columns)


def _values(module: str, with_value: str = "") -> list[str]:
    """Return the values of the one enumeration that a module declares, or of that which has a value."""
    enums = [
        value
        for value in vars(import_module(module)).values()
        if isinstance(value, type) and issubclass(value, StrEnum) and value.__module__ == module
    ]
    (found,) = [enum for enum in enums if not with_value or with_value in [*enum]]
    return sorted(found)


def keys(value: object, path: str = "") -> Iterator[str]:
    """Yield the paths of a document's keys: ``tags[].status``."""
    if isinstance(value, list):
        for each in value:
            yield from keys(each, f"{path}[]")
    elif isinstance(value, dict):
        for name, below in value.items():
            if last := _BY_DATA.get(path.rpartition(".")[2]):
                name = last  # noqa: PLW2901 -- what it is one of
            yield (here := f"{path}.{name}".lstrip("."))
            yield from keys(below, here)


@contextmanager
def _client(settings: Settings) -> Iterator[FlaskClient]:
    """Be a server for the block."""
    app = create_app(settings)
    yield app.test_client(use_cookies=False)
    with app.app_context():
        context.registry().close()
        context.audit().close()


def _lines(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines())


@dataclass
class Seen:
    """What commands wrote, over a registry of little sources.

    Attributes:
        output: Keys of what each command prints with ``--json``.
        columns: Headings of what each command prints as CSV.
        plan: Keys of lines of plans.
        journal, audit: Keys of lines, by their event.
    """

    folder: Path
    output: dict[str, set[str]] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)
    plan: set[str] = field(default_factory=set)
    journal: dict[str, set[str]] = field(default_factory=dict)
    audit: dict[str, set[str]] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """The registry's folder."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.folder / "audit.log"

    def run_everything(self) -> None:
        """Run each command that writes JSON."""
        sources = self._sources()
        for source in sources:
            self._migrate(source)
        self._mirror()
        self._administer()
        self._be_asked(sources[0])
        self._collect()
        self._read()
        self._undo(sources)
        self._read()

    def _sources(self) -> list[str]:
        old = Tree(self.folder / "old")
        base = old.image("base", LAYERS["a"])
        old.tag("team/old", "1", old.image("top", LAYERS["b"], parent=base))
        old.tag("team/old", "broken", "0" * 64)
        old.image("nobody's", LAYERS["c"])
        stock = stock_trees.small(self.folder / "stock")
        stock.schema1("team/one", "1", LAYERS["c"], LAYERS["d"])
        stock.image("team/lost", lost := builders.image(LAYERS["e"]), "1")
        stock.data(builders.Digest.of(lost.layers[0])).unlink()
        return [f"v1-tree:{old.root}", f"registry-tree:{stock.root}", self._saved()]

    def _saved(self) -> str:
        image = builders.image(builders.layer({"s": b"saved"}))
        config, layer = image.config, builders.gzip.decompress(image.layers[0])
        entry = {"Config": "config.json", "RepoTags": ["team/saved:1"], "Layers": ["layer.tar"]}
        path = self.folder / "saved.tar"
        path.write_bytes(
            builders.tar(
                {"manifest.json": json.dumps([entry]).encode(), "config.json": config, "layer.tar": layer}
            )
        )
        return f"docker-archive:{path}"

    def _migrate(self, source: str) -> None:
        self.prints(f"migrate inspect {source}")
        self.prints(f"migrate inspect {source} --for v1,docker-26")
        plan = self.folder / "plan"
        self.prints(f"migrate plan {source} --output={plan}")
        self.plan |= {key for line in _lines(plan.read_text()) for key in line}
        plan.unlink()
        if not source.startswith("docker-archive:"):
            self.prints(f"migrate run {source} --dry-run")
        self.prints(f"migrate run {source}")
        self.prints(f"migrate verify {source}")
        self.prints("migrate report")
        self.prints("migrate report --list")
        self.prints("migrate runs --limit 1")
        run = json.loads(self.invoke("migrate runs --limit 1 --json"))["run"]
        state = json.loads(self.invoke(f"migrate status {run} --json"))
        self.output.setdefault("migrate status", set()).update(keys(state))
        for kind in ("csv", "csv-images"):
            text = self.invoke(f"migrate report --all --{kind}")
            self.columns[f"migrate report --{kind}"] = next(csv.reader(io.StringIO(text)))

    def _mirror(self) -> None:
        self.prints("mirror run --dry-run")
        self.prints("mirror run")
        self.prints("mirror list")

    def _administer(self) -> None:
        for line in (
            "account add alice --password-stdin", "account password alice --password-stdin",
            "account add ci --robot", "group add team alice", "group add team ci", "group remove team ci",
            "access grant alice team/* pull,push", "access grant ci x/* pull", "access revoke ci x/*",
            "quota set none/* 1g --soft 500m", "quota set x/* 1g", "quota remove x/*",
            "immutable add x/*", "immutable add team/*:v*", "immutable remove x/*",
            "key add alice --note mine --expires 1d", "token rotate --grace 1h",
            "account add eve --robot",
        ):  # fmt: skip
            self.invoke(line, given="secret password\n")
        for line in (
            "usage team/one", "usage --depth 0",
            "access list", "access explain alice team/old pull", "access explain ci team/old pull",
            "account add bob --robot", "account disable bob", "account enable bob", "account unlock bob",
            "group add team bob", "group remove team bob", "access grant bob x/* pull,manage",
            "access revoke bob x/*", "key add bob --expires 1d", "token rotate --grace 2h",
            "account logins bob", "account logout bob", "account remove eve", "account remove bob",
            "account list", "config show", "group list", "immutable list", "immutable explain team/old:v1",
            "key list", "quota list", "audit --limit 1",
            "repository show team/old", "repository show team/app", "repository list team/one",
            "repository list team/one --search :",
        ):  # fmt: skip
            self.prints(line)
        self._move()
        self.prints("images check team/old --for v1")
        self.prints("image show team/old:1")
        self.prints("image faces team/old:1")
        arm = builders.image(LAYERS["a"], LAYERS["b"], architecture="arm64")
        self.prints(f"image compare team/app:latest {arm.digest}")
        self.prints("image files team/old:1")
        self.prints("image diff team/old:1")
        self._retain()
        self._derive()
        (key,) = json.loads(self.invoke("key list --json"))
        self.invoke(f"key revoke {key['id']} --json")
        self.invoke("account unlock alice")
        self.invoke("account unlock --address 192.0.2.1")
        self.invoke("account remove ci")
        for target in ("oci-layout", "registry-tree"):
            self.prints(f"export {target}:{self.folder / target}")

    def _retain(self) -> None:
        self.invoke("retention add team/saved --matching nothing")
        self.prints("retention list")
        self.prints("tasks preview retention")
        for line in ("explain team/saved:1", "run --dry-run", "run"):
            self.prints(f"retention {line}")
        self.invoke("retention remove team/saved")
        self.prints("tasks run gc")
        self.prints("tasks")
        self.prints("status")
        self.prints("usage team/* --depth 1 --brief")
        self.invoke("tasks run growth")
        self.prints("growth")

    def _move(self) -> None:
        for line in ("tag set team/old:2 1", "tag delete team/old:2", "tag restore team/old:2"):
            for option in ("--dry-run", ""):
                self.prints(f"{line} {option}")
        self.prints("tag list team/old --limit 1")
        self.prints("tag history team/old:2 --limit 1")
        self.invoke("tag set team/old:3 1")
        self.prints("tag delete team/old:2 team/old:3 --dry-run")
        self.prints("tag delete team/old:2 team/old:3")
        self.invoke("repository delete team/one")
        for line in ("repository restore team/one", "tag forget team/old:2"):
            for option in ("--dry-run", ""):
                self.prints(f"{line} {option}")

    def _derive(self) -> None:
        self.prints("derive team/one --schema2")
        moves = self.folder / "moves.csv"
        self.invoke(f"derive team/one --schema2 --retag --csv {moves}")
        with moves.open(newline="") as file:
            self.columns["derive --csv"] = next(csv.reader(file))
        self.invoke(f"derive --undo {moves}")

    def _be_asked(self, source: str) -> None:
        """Be a server: one that wants to know who asks, one that takes images in, and one for V1 clients."""
        agent = {"User-Agent": "docker/1.5.0"}
        known = agent | {"Authorization": "Basic YWxpY2U6c2VjcmV0IHBhc3N3b3Jk"}
        with _client(Settings(data=self.data, auth="accounts", audit=str(self.log))) as guarded:
            assert guarded.get("/v2/x/tags/list", headers=agent).status_code == 401
            assert guarded.get("/v2/other/tags/list", headers=known).status_code == 403
            assert guarded.post("/v2/team/old/blobs/uploads/", headers=known).status_code == 202
            asked = "/token?service=dualreg&offline_token=true&scope=repository:team/old:pull"
            assert "refresh_token" in guarded.get(asked, headers=known).json
            assert guarded.get("/v1/repositories/team/old/images", headers=known).status_code == 200
            key = guarded.post("/api/v1/me/keys", headers=known, json={}).json["id"]
            assert guarded.delete(f"/api/v1/me/keys/{key}", headers=known).status_code == 204
        self.prints("token list")
        self.prints("clients")
        self.prints("clients --summary")
        self.prints("v1 set readonly")
        self.prints("v1 show")
        self.invoke("v1 set on")
        chosen = self.folder / "upstreams.toml"
        chosen.write_text('upstreams = "hub/*=https://hub.example"')
        self.prints(f"upstreams --config {chosen}")
        for session in json.loads(self.invoke("token list --json")):
            self.invoke(f"token revoke {session['id']}")
        settings = Settings(data=self.folder / "behind", legacy_source=source, audit=str(self.log))
        with _client(settings) as behind:
            assert behind.get("/v2/team/old/manifests/1").status_code == 200

    def _collect(self) -> None:
        """Discard what somebody began to upload long ago."""
        stray = self.data / "uploads" / UploadId.new()
        stray.write_bytes(b"")
        os.utime(stray, (0, 0))
        self.prints("gc --dry-run")
        self.prints("gc")
        self.prints("why team/old:1")
        self.prints("db current")
        self.prints("db check")
        self.invoke("readonly on --reason copy")
        for option in ("--dry-run", ""):
            self.prints(f"db copy sqlite:///{self.folder}/copy.sqlite3 {option}")
            self.prints(f"store copy {self.data.as_uri()} {(self.folder / 'moved').as_uri()} {option}")
        self.invoke("readonly off")
        self._follow()

    def _follow(self) -> None:
        """Follow a copy in which a blob is missing."""
        copy = shutil.copytree(self.data / "docker", self.folder / "copy/docker").parent
        next((copy / "docker/registry/v2/blobs").rglob("data")).unlink()
        own = self.folder / "follower"
        self.invoke(f"follow update --follow {copy}", data=own)
        self.prints(f"follow status --follow {copy}", data=own)

    def _read(self) -> None:
        for path in self.folder.glob("*/migrations/*.jsonl"):
            for line in _lines(path.read_text()):
                self.journal.setdefault(line["event"], set()).update(keys(line))
        for line in _lines(self.log.read_text()):
            event = f"{line['event']} {line.get('command', '')}".strip()
            self.audit.setdefault(event, set()).update(keys(line))

    def _undo(self, sources: Iterable[str]) -> None:
        for source in sources:
            self.prints(f"migrate rollback --all {source} --dry-run")
            self.prints(f"migrate rollback --all {source}")
        self.invoke("repository delete team/old")
        (self.data / "docker/registry/v2/repositories/not a name").mkdir(parents=True)
        self.prints("db rebuild --dry-run")
        self.prints("db rebuild --replace")
        self._back_up()

    def _back_up(self) -> None:
        """Back up a registry that has lost its blobs, and restore it to another folder."""
        with _client(Settings(data=self.data, audit="off")) as client:
            push_blob(client, "team/lost", b"lost")
        for blob in (self.data / "docker/registry/v2/blobs").rglob("data"):
            blob.unlink()
        for option in ("--dry-run", ""):
            self.prints(f"backup {self.folder / 'backup'} {option}")
        self.prints(f"restore {self.folder / 'backup'}", data=self.folder / "restored")

    def prints(self, line: str, *, data: Path | None = None) -> None:
        """Run a command, and note the keys of what it prints with ``--json``."""
        words = [word for word in line.split() if ":" not in word and "/" not in word]
        found = self.output.setdefault(" ".join(words), set())
        document = json.loads(self.invoke(f"{line} --json", data=data))
        found.update(keys({"SETTING": document["bind"]} if line == "config show" else document))

    def invoke(self, line: str, given: str = "", data: Path | None = None) -> str:
        """Run a command over *data*, by default the registry; return its standard output."""
        rule = {"pull": f"registry-tree:{self.folder / 'stock'}", "prefix": "mirror"}
        env = {"DUALREG_CONFIG": None, "DUALREG_AUDIT": str(self.log)}
        env["DUALREG_MIRRORS"] = json.dumps({"stock": rule})
        words = [*line.split(), "--data", str(data or self.data)]
        result = CliRunner().invoke(main, words, input=given, env=env)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.stdout
