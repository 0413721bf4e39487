"""Plans: which tags are selected, under which names, and why others are not."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from dualreg.image.names import RepositoryName
from dualreg.registry import Registry
from tests.migrate.commands import command, content, named, source
from tests.migrate.trees import LAYERS, Expected, Tree, image_id


def test_plans_are_made_edited_and_run(
    expected: Expected, data: Path, tmp_path: Path, opened: Registry
) -> None:
    """A plan has one line per tag with action and reason; names are mapped, and edits are followed."""
    mapping = tmp_path / "names"
    mapping.write_text("Upper/Case upper/case  # lower\nteam/app:a+b team/app:a-b\n")
    file = tmp_path / "plan.jsonl"
    output = command(
        data, f"plan {source(expected)} --map {mapping} -o {file} --library both", code=None
    ).stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    both = [line["to_repository"] for line in lines if line["repository"] == "library/short"]
    assert sorted(both) == ["library/short", "short"]
    skipped = {
        f"{line['repository']}:{line['tag']}": line["reason"] for line in lines if line["action"] == "skip"
    }
    assert "Upper/Case:1" not in skipped
    assert skipped["lost/dangling:1"].startswith("dangling-tag")
    assert "would be imported" in output
    kept = [line for line in lines if line["repository"] in ("Upper/Case", "library/short")]
    file.write_text("\n".join(map(json.dumps, kept)))
    result = command(data, f"run {source(expected)} --plan {file}")
    assert result.exit_code == 0
    assert opened.repositories.list(last="", limit=9).rows == ["library/short", "short", "upper/case"]
    file.write_text('{"repository": 1}')
    assert "line 1 of the plan" in command(data, f"run {source(expected)} --plan {file}", code=2).output


def test_two_names_that_become_one_are_refused(tmp_path: Path, data: Path) -> None:
    """Unless they are the same image, it is undecidable which one is meant."""
    tree = Tree(tmp_path / "old")
    for name, seed in (("library/x", "1"), ("team/x", "2")):
        tree.tag(name, "t", tree.image(seed, gzip.compress(seed.encode() * 512)))
    mapping = tmp_path / "names"
    mapping.write_text("team/x x\n")
    lines = command(data, f"plan v1-tree:{tree.root} --map {mapping}", code=None).stdout.splitlines()
    assert all(json.loads(line)["reason"].startswith("collision") for line in lines)
    mapping.write_text("one two three\n")
    assert (
        "line 1 of the mapping" in command(data, f"plan v1-tree:{tree.root} --map {mapping}", code=2).output
    )


def test_names_of_upstreams(
    tmp_path: Path, data: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is imported under the prefix of an upstream, not even by a plan that was edited."""
    tree, file = Tree(tmp_path / "old"), tmp_path / "plan.jsonl"
    for name in ("hub/x", "team/x"):
        tree.tag(name, "t", tree.image(name, LAYERS["a"]))
    monkeypatch.setenv("DUALREG_UPSTREAMS", "hub/*=https://hub.test")
    command(data, f"plan v1-tree:{tree.root} -o {file}", code=1)
    lines = {line["repository"]: line for line in map(json.loads, file.read_text().splitlines())}
    assert lines["hub/x"]["reason"].startswith("owned: hub/x is a name of https://hub.test")
    assert lines["team/x"]["action"] == "import"
    edited = [line | {"action": "import"} for line in lines.values()]
    file.write_text("\n".join(map(json.dumps, edited)))
    output = command(data, f"run v1-tree:{tree.root} --plan {file}", code=1).output
    assert "hub/x:t: skipped: owned" in output
    assert opened.repositories.list(last="", limit=9).rows == ["team/x"]


@pytest.mark.slow
def test_repositories_that_an_upstream_of_all_names_has(
    tmp_path: Path, data: Path, opened: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is imported to what was pulled from there, as nothing can be pushed; to others it is."""
    tree = Tree(tmp_path / "old")
    for name in ("their/x", "own/x", "new/x"):
        tree.tag(name, "t", tree.image(name, LAYERS["a"]))
    theirs = RepositoryName("their/x")
    opened.loaded.claim(theirs, "https://all.test")
    command(data, f"run v1-tree:{tree.root} --include own/x")
    monkeypatch.setenv("DUALREG_UPSTREAMS", "*=https://all.test")
    for line, code in (("run --dry-run", 0), ("run", 1), ("run --existing overwrite", 1)):
        output = command(data, f"{line} v1-tree:{tree.root}", code=code).output
        assert "their/x:t: skipped: owned: their/x was pulled from https://all.test" in output
        assert opened.tags.list_all(theirs) == ()
    assert opened.tags.list_all(RepositoryName("new/x")) == ("t",)
    monkeypatch.delenv("DUALREG_UPSTREAMS")
    command(data, f"run v1-tree:{tree.root}")
    assert opened.tags.list_all(theirs) == ("t",)


def test_filters(tmp_path: Path, data: Path) -> None:
    """By patterns, by date, and the latest of each repository."""
    tree = Tree(tmp_path / "old")
    for number in range(1, 5):
        image = tree.image(str(number), gzip.compress(bytes(512 * number)))
        tree.tag("team/app", f"v{number}", image, updated=1_400_000_000 + number * 86_400)

    def chosen(line: str) -> list[str]:
        lines = command(data, f"plan v1-tree:{tree.root} {line}", code=None).stdout.splitlines()
        return [each["tag"] for each in map(json.loads, lines) if each["action"] == "import"]

    assert chosen("") == ["v1", "v2", "v3", "v4"]
    assert chosen("--include */app:v1 --include *:v2") == ["v1", "v2"]
    assert chosen("--exclude *:v1 --exclude *:v4") == ["v2", "v3"]
    assert chosen("--latest 2") == ["v3", "v4"]
    assert chosen("--since 2014-05-16") == ["v3", "v4"]
    assert chosen("--include team/app --exclude team/app:v4") == ["v1", "v2", "v3"]
    assert chosen("--include other/*") == []
    listed = tmp_path / "listed"
    listed.write_text("team/app:v2  # the good one\n\nteam/absent\n")
    assert chosen(f"--list {listed}") == ["v2"]
    listed.write_text("team/app\n")
    assert chosen(f"--list {listed} --latest 1") == ["v4"]
    listed.write_text("team/app v1\n")
    line = f"plan v1-tree:{tree.root} --list {listed}"
    assert "line 1 of the list" in command(data, line, code=2).output


def test_shards(expected: Expected, data: Path) -> None:
    """Each repository is in exactly one shard, so that several machines can share the work."""
    parts = []
    for part in "123":
        lines = command(data, f"plan {source(expected)} --shard {part}/3", code=None).stdout.splitlines()
        result = [json.loads(line) for line in lines]
        parts.append({line["repository"] for line in result if line["action"] != "leave"})
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == {named(tag).rpartition(":")[0] for tag in (*expected.good, *expected.bad)}
    for wrong in ("0/3", "4/3", "1", "a/b"):
        assert "invalid shard" in command(data, f"plan {source(expected)} --shard {wrong}", code=2).output


def test_unselected_tags_are_not_failures(expected: Expected, data: Path) -> None:
    """A run that imported all selected tags ends with 0, and does not mention others."""
    result = json.loads(command(data, f"run {source(expected)} --include team/twin --json").stdout)
    assert [tag["tag"] for tag in result["tags"]] == ["team/twin:1"]
    assert "lost/" not in command(data, f"run {source(expected)} --include team/twin --dry-run").stdout
    assert "1 same" in command(data, f"run {source(expected)} --include team/twin").output


@pytest.mark.parametrize(
    "change",
    ["{", "[]", "5", '"text"', {"repository": 5}, {"unknown": "x"}, {"action": "move"}, {"updated": "soon"}],
)
def test_invalid_lines_in_a_plan(expected: Expected, data: Path, tmp_path: Path, change: object) -> None:
    """One line names the line of the plan, and nothing is imported."""
    good = command(data, f"plan {source(expected)}", code=None).stdout.splitlines()[0]
    bad = json.dumps(json.loads(good) | change) if isinstance(change, dict) else change
    (tmp_path / "plan").write_text(f"{good}\n{bad}\n")
    output = command(data, f"run {source(expected)} --plan {tmp_path / 'plan'}", code=2).output
    assert "line 2 of the plan" in output
    assert content(data) == {}


def decisions(data: Path, line: str) -> dict[str, tuple[str, str]]:
    """Return the action of a plan for each tag, and the new name."""
    lines = [json.loads(each) for each in command(data, f"plan {line}", code=None).stdout.splitlines()]
    return {
        f"{each['repository']}:{each['tag']}": (each["action"], f"{each['to_repository']}:{each['to_tag']}")
        for each in lines
    }


def test_broken_tags_do_not_collide(tmp_path: Path, data: Path) -> None:
    """A tag is not refused because of another one that cannot be imported anyway."""
    tree = Tree(tmp_path / "old")
    good = tree.image("good", LAYERS["a"])
    tree.tag("library/x", "t", image_id("never pushed"))
    tree.tag("team/x", "t", good)
    tree.tag("team/a%2Fb", "1", good, 1_400_000_001)
    tree.tag("team/a%252Fb", "1", image_id("never pushed"), 1_400_000_009)
    mapping = tmp_path / "names"
    mapping.write_text("team/x x\n")
    lines = command(data, f"plan v1-tree:{tree.root} --map {mapping}", code=None).stdout.splitlines()
    result = Counter((each["to_repository"], each["action"]) for each in map(json.loads, lines))
    assert result == {(name, action): 1 for name in ("x", "team/a/b") for action in ("import", "skip")}


def test_lines_with_the_same_target(expected: Expected, data: Path, tmp_path: Path) -> None:
    """In an edited plan they are named, and nothing is imported."""
    line = f"plan {source(expected)} --include team/app:1 --include team/app:2"
    lines = [json.loads(each) for each in command(data, line).stdout.splitlines()]
    chosen = [{**each, "to_tag": "1"} for each in lines if each["action"] == "import"]
    file = tmp_path / "plan"
    file.write_text("\n\n".join(map(json.dumps, chosen)))
    output = command(data, f"run {source(expected)} --plan {file}", code=2).output
    assert "lines 1 and 3 of the plan: both are imported as team/app:1" in output
    assert not data.exists()


def test_options_without_effect(expected: Expected, data: Path, tmp_path: Path) -> None:
    """They are refused beside a plan; names in a file that the source does not contain are reported."""
    (tmp_path / "plan").write_text("")
    for option in ("--include x", "--latest 1", "--library keep", "--untagged", "--shard 1/1"):
        for line in ("run", "verify"):
            both = f"{line} {source(expected)} --plan {tmp_path / 'plan'} {option}"
            assert f"{option.split()[0]} cannot be combined with --plan" in command(data, both, code=2).output
    assert (
        "--follow cannot be combined with --plan"
        in command(data, f"run {source(expected)} --plan {tmp_path / 'plan'} --follow 1s", code=2).output
    )
    (tmp_path / "names").write_text("team/typo x\nteam/app:typo y:1\nteam/app:1 z:1\n")
    (tmp_path / "list").write_text("short\nsort/typo\n")
    for option, missing in (("map", ["team/app:typo", "team/typo"]), ("list", ["sort/typo"])):
        file = tmp_path / {"map": "names"}.get(option, option)
        errors = command(data, f"plan {source(expected)} --{option} {file}", code=None).stderr.splitlines()[
            :-1
        ]
        assert errors == [f'no tag or repository "{name}" in the source' for name in missing]


@pytest.mark.parametrize("name", ["short", "short:latest", "library/short", "library/short:latest"])
def test_old_names_without_library(expected: Expected, data: Path, tmp_path: Path, name: str) -> None:
    """Short names, the only ones that clients of V1 registries know, select tags and can be mapped."""
    file = tmp_path / "names"
    file.write_text(name)
    for line in (f"--include {name}", f"--list {file}"):
        result = decisions(data, f"{source(expected)} {line}")
        assert [tag for tag, (action, _) in result.items() if action == "import"] == ["library/short:latest"]
    assert decisions(data, f"{source(expected)} --exclude {name}")["library/short:latest"][0] == "leave"
    file.write_text(f"{name} team/new{':2' * (':' in name)}")
    result = decisions(data, f"{source(expected)} --map {file}")
    assert result["library/short:latest"][1] == ("team/new:2" if ":" in name else "team/new:latest")


def test_names_with_blanks(tmp_path: Path, data: Path) -> None:
    """They are quoted as in a shell; proposed names can be written into the file as printed."""
    tree = Tree(tmp_path / "old")
    image = tree.image("a", LAYERS["a"])
    names = (("team/my app", "1"), ("team/a#b", "1"), ("team/a-b", "1"), ("team/A-B", "1"), ("team/o'x", "1"))
    for name, tag in (*names, ("team/ok", "v 1"), ("team/ok", "v-1")):
        tree.tag(name, tag, image)
    lines = [
        json.loads(each) for each in command(data, f"plan v1-tree:{tree.root}", code=None).stdout.splitlines()
    ]
    proposed = [
        re.fullmatch(r"bad-(name|tag): map (.+) to a valid name, such as (\S+)", each["reason"])
        for each in lines
    ]
    mapping = tmp_path / "names"
    mapping.write_text("# names\n" + "\n".join(f"{each[2]} {each[3]}" for each in proposed if each))
    result = decisions(data, f"v1-tree:{tree.root} --map {mapping}")
    assert {*result.values()} == {
        ("import", "team/my-app:1"), ("import", "team/a-b:1"), ("import", "team/a-b-2:1"),
        ("import", "team/a-b-3:1"), ("import", "team/o-x:1"),
        ("import", "team/ok:v-1"), ("import", "team/ok:v-1-2"),
    }  # fmt: skip
    mapping.write_text("'team/my app team/app\n")
    line = f"plan v1-tree:{tree.root} --map {mapping}"
    assert "line 1 of the mapping: No closing quotation" in command(data, line, code=2).output
