"""``dualreg retention``: rules, what becomes of tags by them, and runs."""

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.clock import utc_now
from dualreg.cli import main
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests import builders
from tests.programs import unannounced
from tests.properties.registries import push_v2

NAME, HUB = RepositoryName("team/app"), RepositoryName("hub/app")
IMAGE = builders.image(builders.layer({"a": b"a"}))
#: How many days ago each tag was pushed.
TAGS = {"latest": 0, "v2": 10, "v1": 20, "pr-2": 40, "pr-1": 50}


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a registry with tags of all ages, and with content of an upstream."""
    settings = Settings(data=tmp_path / "data")
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        for name in (NAME, HUB):
            push_v2(registry, name, Tag("latest"), IMAGE)
            with registry.state.catalog.begin() as tx:
                row = tx.repositories.ensure(name).id
                for tag, days in TAGS.items():
                    tx.tags.point(row, [Tag(tag)], IMAGE.digest, at=utc_now() - timedelta(days=days, hours=1))
                if name == HUB:
                    tx.repositories.record_upstream(row, "https://hub.example")
    return settings.data


def run(data: Path, line: str, *, code: int = 0) -> Result:
    """Run a command, which must exit with *code*."""
    words = ["retention", *line.split(), "--data", str(data)]
    result = unannounced(CliRunner().invoke(main, words, env={"DUALREG_CONFIG": None}))
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    return result


def audit(data: Path) -> list[dict[str, Any]]:
    """Return what the audit log has of retention."""
    lines = map(json.loads, (data / "audit.jsonl").read_text().splitlines())
    return [line for line in lines if line.get("command", "").startswith("retention")]


def test_rules_are_added_listed_and_removed(data: Path) -> None:
    """Each command prints what it did, and what to do next."""
    assert "retention add" in run(data, "list").output
    added = run(data, "add team/* --newest 3 --younger-than 30d --matching v* --matching latest")
    text = "team/*:* (newest 3, younger-than 30d, matching v* latest)"
    assert added.output.startswith(f"Added the rule {text}.\n")
    assert "retention run --dry-run" in added.output
    assert "Warning" not in added.output
    assert "Warning" in run(data, "add team/*:pr-* --pulled-within 12h").output
    listed = run(data, "list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["PATTERN", "team/*:*", "team/*:pr-*", "2"]
    assert listed[2].split(maxsplit=1)[1] == "pulled-within 12h"
    documents = json.loads(run(data, "list --json").stdout)
    assert documents[0] == {
        "repositories": "team/*", "tags": "*", "newest": 3, "younger_than": "30d", "pulled_within": None,
        "matching": ["v*", "latest"],
    }  # fmt: skip
    assert "already a rule for team/*:*; remove it first" in run(data, "add team/* --newest 1", code=1).output
    assert "Removed" in run(data, "remove team/*").output
    assert "no rule for team/*:*" in run(data, "remove team/*", code=1).output
    assert [(line["command"], line.get("rule") or line.get("pattern")) for line in audit(data)] == [
        ("retention add", text),
        ("retention add", "team/*:pr-* (pulled-within 12h)"),
        ("retention remove", "team/*:*"),
    ]


@pytest.mark.parametrize(
    ("line", "text", "code"),
    [
        ("add team/*", "needs a clause", 1),
        ("add team/* --newest 0", "invalid number 0", 1),
        ("add Team --newest 1", "invalid pattern 'Team'", 1),
        ("add team/* --matching a/b", "invalid pattern 'a/b'", 1),
        ("add team/* --younger-than soon", "expected a duration", 2),
        ("explain none", "not known to registry: none", 1),
        ("explain team/app:none", "Tag not found: none", 1),
        ("explain A", "invalid repository name", 1),
        ("run a?", '"?" is not supported', 2),
    ],
)
def test_mistakes(data: Path, line: str, text: str, code: int) -> None:
    """They are named in one line, and change nothing."""
    result = run(data, line, code=code)
    assert text in result.output
    assert json.loads(run(data, "list --json").stdout) == []


def test_rules_are_explained(data: Path) -> None:
    """Which rule keeps each tag, and until when; or that none does, or is for it."""
    assert "no rule matches it" in run(data, "explain team/app:v1").stdout
    run(data, "add team/* --newest 1 --younger-than 15d")
    run(data, "add team/*:pr-2 --matching *")
    lines = {line.split()[0]: line for line in run(data, "explain team/app").stdout.splitlines()}
    assert [*lines] == ["TAG", *TAGS]
    until = utc_now() + timedelta(days=5, hours=-1)
    for name, text in {
        "latest": "team/*:* keeps newest 1; team/*:* keeps younger-than 15d",
        "v2": "team/*:* keeps younger-than 15d",
        "v1": "not kept by team/*:* (newest 1, younger-than 15d)",
        "pr-2": "team/*:pr-2 keeps matching *",
        "pr-1": "not kept by team/*:* (newest 1, younger-than 15d)",
    }.items():
        assert lines[name].endswith(text), lines[name]
    assert f"until {until:%Y-%m-%d}" in lines["v2"]
    (line,) = run(data, "explain team/app:v2 --json").stdout.splitlines()
    document = json.loads(line)
    assert document["stays"] is True
    assert document["until"].startswith(f"{until:%Y-%m-%dT}")
    assert document["rules"] == ["team/*:*"]
    assert [(each["clause"], each["rule"]) for each in document["kept_by"]] == [("younger-than", "team/*:*")]
    run(data, "add hub/* --newest 1")
    explained = run(data, "explain hub/app")
    assert "from https://hub.example" in explained.stderr
    assert explained.stdout.count("no rule matches it") == len(TAGS)


@pytest.mark.slow
def test_a_run_deletes_what_it_announced(data: Path) -> None:
    """A dry run lists it and deletes nothing; the audit log has each tag, with its image and the reason."""
    run(data, "add *:pr-* --newest 1")
    run(data, "add * --younger-than 15d --matching pr-*")
    run(data, "add team/*:pr-* --pulled-within 1d")
    assert run(data, "run").output.count("Deleted 1 tag of 5 in 1 repository with rules.") == 1
    run(data, "remove *")
    planned = run(data, "run --dry-run")
    assert planned.stdout.splitlines()[1].split()[0] == "team/app:pr-1"
    assert "Would delete 1 tag of 4" in planned.stdout
    assert [json.loads(line)["tag"] for line in run(data, "run --dry-run --json").stdout.splitlines()] == [
        "pr-1"
    ]
    done = run(data, "run")
    assert "gc_untagged" in done.stdout
    assert "Deleted 0 tags" in run(data, "run").stdout
    left = json.loads(run(data, "list --json").stdout)
    assert len(left) == 2
    lines = [line for line in audit(data) if line["command"] == "retention run"]
    assert [(line["repository"], line["tag"], line["digest"]) for line in lines] == [
        (NAME, "v1", str(IMAGE.digest)), (NAME, "pr-1", str(IMAGE.digest)),
    ]  # fmt: skip
    assert lines[0]["reason"] == "not kept by *:* (younger-than 15d, matching pr-*)"
    assert "*:pr-* (newest 1); team/*:pr-* (pulled-within 1d)" in lines[1]["reason"]


def test_a_registry_that_is_read_only_stays_as_it_is(data: Path) -> None:
    """A run is refused; a dry run is not."""
    run(data, "add * --newest 1")
    words = ["readonly", "on", "--reason", "moving", "--data", str(data)]
    assert CliRunner().invoke(main, words, env={"DUALREG_CONFIG": None}).exit_code == 0
    assert "moving" in run(data, "run", code=1).output
    assert "Would delete 4 tags" in run(data, "run --dry-run").stdout
