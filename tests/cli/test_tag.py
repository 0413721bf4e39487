"""``dualreg tag`` lists, moves, restores and deletes tags, beside a running server; of all generations."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.acting import Api, acting
from dualreg.assembly import open_registry, prepare
from dualreg.cli import main
from dualreg.cli.output import sized
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.storage.links import tag_link
from tests import builders
from tests.migrate.trees import LAYERS, Tree
from tests.programs import unannounced
from tests.properties.registries import push_v1, push_v2

NAME, TAG = RepositoryName("team/app"), Tag("1.0")
SCHEMA2, OCI = (builders.image(builders.layer({"a": b"%d" % n}), oci=bool(n)) for n in range(2))
CHAIN = builders.v1_chain(builders.layer({"a": b"v1"}))


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry whose tag was pushed by every generation of clients: V1, schema 2, OCI, and V1 again."""
    prepare(Settings(data=tmp_path))
    registry = open_registry(Settings(data=tmp_path))
    with acting("alice", Api.V1):
        push_v1(registry, NAME, TAG, CHAIN)
    with acting("bob", Api.V2):
        push_v2(registry, NAME, TAG, SCHEMA2)
        push_v2(registry, NAME, TAG, OCI)
    with acting("", Api.V1):
        registry.bridge.tag(NAME, TAG, CHAIN[-1].id)
    yield registry
    registry.close()


@pytest.fixture
def run(registry: Registry, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command over it, while it is open."""
    assert registry.tags.count() == 1

    def invoke(*line: str, code: int = 0) -> Result:
        arguments = [*" ".join(line).split(), "--data", str(tmp_path)]
        result = unannounced(CliRunner().invoke(main, arguments, env={"DUALREG_CONFIG": None}))
        assert result.exit_code == code, result.output
        return result

    return invoke


def digest_of(registry: Registry) -> str | None:
    """Return what the tag points at, in the catalog and in its link file."""
    row = registry.manifests.peek(NAME, TAG)
    link = registry.state.links.tree.read_link(tag_link(NAME, TAG))
    found = link.content.decode() if link else None
    assert found == (str(row.digest) if row else None)
    return found


def rows(result: Result) -> list[dict[str, Any]]:
    """Return the lines of JSON."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_history_is_shown(registry: Registry, run: Callable[..., Result]) -> None:
    """Newest first, with who moved the tag by which API; as many as are wanted."""
    made = digest_of(registry)
    lines = [line.split() for line in run("tag history team/app:1.0").stdout.splitlines()]
    assert lines[0] == ["AT", "VIA", "WHO", "POINTS", "AT"]
    assert [line[3:] for line in lines[1:-1]] == [
        ["v1", "-", made],
        ["v2", "bob", str(OCI.digest)],
        ["v2", "bob", str(SCHEMA2.digest)],
        ["v1", "alice", made],
    ]
    assert lines[-1] == ["4", "moves."]
    newest = rows(run("tag history team/app:1.0 --json --limit 2"))
    assert [(row["old"], row["new"], row["origin"]) for row in newest] == [
        (str(OCI.digest), made, "v1"),
        (str(SCHEMA2.digest), str(OCI.digest), "v2"),
    ]
    assert run("tag history team/app:absent").stdout == "team/app:absent has no history.\n"


@pytest.mark.slow
def test_tags_are_listed(run: Callable[..., Result]) -> None:
    """By name or newest first, as many as are wanted."""
    run("tag set team/app:2.0 1.0")
    run(f"tag set team/app:1.1 {OCI.digest}")
    for options, expected in (
        ("", ["1.0", "1.1", "2.0"]),
        ("--newest", ["1.1", "2.0", "1.0"]),
        ("--prefix 1", ["1.0", "1.1"]),
        ("--newest --limit 2", ["1.1", "2.0"]),
    ):
        listed = rows(run(f"tag list team/app --json {options}"))
        assert [row["name"] for row in listed] == expected
        lines = run(f"tag list team/app {options}").stdout.splitlines()
        assert [line.split()[0] for line in lines[1:-1]] == expected
    sizes = {
        row["name"]: (row["bytes"], row["own"], row["shared"])
        for row in rows(run("tag list team/app --json"))
    }
    assert sizes["1.1"][1] == sum(map(len, (OCI.manifest, *OCI.blobs.values())))
    assert sizes["1.1"] == (sizes["1.1"][1], sizes["1.1"][1], 0)
    assert sizes["1.0"] == sizes["2.0"] == (sizes["1.0"][0], 0, sizes["1.0"][0])
    assert {row["name"]: row["origin"] for row in rows(run("tag list team/app --json"))} == {
        "1.0": "v1",
        "1.1": "v2",
        "2.0": "v1",
    }


@pytest.mark.slow
def test_restore(registry: Registry, run: Callable[..., Result], tmp_path: Path) -> None:
    """To the last one, one by digest, that of a time, or after a deletion; a dry run does nothing."""
    made = digest_of(registry)
    planned = json.loads(run("tag restore team/app:1.0 --dry-run --json").stdout)
    assert (planned["new"], planned["dry_run"]) == (str(OCI.digest), True)
    assert digest_of(registry) == made
    for options, expected, origin in (
        ("", str(OCI.digest), "v2"),
        ("", made, "v1"),
        (f"--to {SCHEMA2.digest}", str(SCHEMA2.digest), "v2"),
    ):
        printed = run(f"tag restore team/app:1.0 {options}").stdout
        assert printed.startswith(f"Pointed team/app:1.0 at {expected}; before, it pointed at sha256:")
        assert digest_of(registry) == expected
        assert registry.tags.describe(NAME, limit=1, reader=None).rows[0].origin == origin
    first = rows(run("tag history team/app:1.0 --json"))[-1]
    run(f"tag restore team/app:1.0 --at {first['at']}")
    assert digest_of(registry) == made
    assert registry.bridge.tags(NAME) == {TAG: CHAIN[-1].id}
    run("tag delete team/app:1.0")
    assert digest_of(registry) is None
    assert run("tag restore team/app:1.0").stdout.endswith("before, it did not exist.\n")
    assert digest_of(registry) == made
    newest = rows(run("tag history team/app:1.0 --json --limit 2"))
    assert [(row["actor"], row["api"]) for row in newest] == [
        ("tag restore", "command"),
        ("tag delete", "command"),
    ]
    audited = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert audited[-1]["command"] == "tag restore"
    assert audited[-1]["digest"] == made


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tag restore team/app", "team/app names no tag; give REPOSITORY:TAG"),
        ("tag restore team/app:x", "team/app:x: it has no history"),
        ("tag restore team/app:1.0 --at 2001-01-01", "its history does not reach back to 200"),
        ("tag restore team/app:1.0 --at noon", "noon is not a time; give one such as 2026-01-31T12:00Z"),
        (f"tag restore team/app:1.0 --to sha256:{'0' * 64}", f"sha256:{'0' * 64}"),
        ("tag set team/app:1.0 1.0", "already"),
        ("tag set team/app:1.0 2.0", "there is no 2.0 in team/app"),
        ("tag delete team/app:2.0", "there is no tag 2.0 in team/app"),
        ("tag delete other/app:1.0", "there is no tag 1.0 in other/app"),
        ("tag list other/app", "other/app"),
    ],
)
def test_failures(run: Callable[..., Result], line: str, message: str) -> None:
    """One line each, which names what is wrong."""
    result = run(line, code=1)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_several_are_deleted(registry: Registry, run: Callable[..., Result], tmp_path: Path) -> None:
    """With what they needed alone; what stays is said on the error output, and by the exit status."""
    for number in range(3):
        run(f"tag set team/app:{number} 1.0")
    run("immutable add team/app:2")
    line = "tag delete team/app:0 team/app:1 team/app:none team/app:2"
    planned = run(f"{line} --dry-run", code=1)
    assert planned.stdout.splitlines()[-1] == "2 tags of team/app, which alone need 0 bytes."
    assert [each.partition(": ")[0] for each in planned.stderr.splitlines()] == [
        "Would keep team/app:none",
        "Would keep team/app:2",
    ]
    done = rows(run(f"{line} --json", code=1))
    assert [each["tag"] for each in done[0]["deleted"]] == ["0", "1"]
    assert [(each["tag"], each["reason"].partition(":")[0]) for each in done[0]["kept"]] == [
        ("none", "Tag not found"),
        ("2", "the tag is immutable"),
    ]
    assert [row.name for row in registry.tags.describe(NAME, limit=9, reader=None).rows] == ["1.0", "2"]
    run("immutable remove team/app:2")
    size = registry.usage.sizes(NAME, registry.tags.describe(NAME, limit=1, reader=None).rows)
    alone = run("tag delete team/app:1.0 team/app:2").stdout.splitlines()[-1]
    assert alone == f"2 tags of team/app, which alone needed {sized(next(iter(size.values())).bytes)}."
    audited = [json.loads(each) for each in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert audited[-1]["tags"] == ["1.0", "2"]
    assert len(audited[-1]["digests"]) == 2


@pytest.mark.slow
def test_imports_and_their_rollback(registry: Registry, run: Callable[..., Result], tmp_path: Path) -> None:
    """An import is a move, by the command; so is what takes it back. Bulk imports are no exception."""
    tree = Tree(tmp_path / "old")
    for number, name in enumerate("ab"):
        tree.tag(f"team/old{number}", "1", tree.image(name, LAYERS[name]))
    run(f"migrate run v1-tree:{tree.root}")
    run(f"migrate run v1-tree:{tree.root}")
    run(f"migrate rollback --all v1-tree:{tree.root}")
    for number in range(2):
        found = registry.history.page(RepositoryName(f"team/old{number}"), Tag("1"), limit=9).rows
        assert [(row.actor, row.api) for row in found] == [
            ("migrate rollback", "import"),
            ("migrate run", "import"),
        ]
        assert (found[0].old, found[0].new) == (found[1].new, None)


def test_whole_repositories(registry: Registry, run: Callable[..., Result]) -> None:
    """Their deletion ends the history of each tag; tags of a new one of the same name go on with it."""
    run("repository delete team/app")
    newest = rows(run("tag history team/app:1.0 --json --limit 1"))[0]
    assert (newest["actor"], newest["new"]) == ("repository delete", None)
    push_v2(registry, NAME, TAG, OCI)
    assert len(rows(run("tag history team/app:1.0 --json"))) == 6
