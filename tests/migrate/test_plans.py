"""Plans: what is chosen, under which names, and what keeps some of it out."""

import gzip
import json
from pathlib import Path

import pytest

from dualreg.registry import Registry
from tests.migrate.commands import command, content, named, source
from tests.migrate.trees import Expected, Tree


def test_plans_are_made_edited_and_run(
    expected: Expected, data: Path, tmp_path: Path, opened: Registry
) -> None:
    """A line for each tag, with what and why; names are mapped, and what is edited out is not taken in."""
    mapping = tmp_path / "names"
    mapping.write_text("Upper/Case upper/case  # lower\nteam/app:a+b team/app:a-b\n")
    file = tmp_path / "plan.jsonl"
    output = command(data, f"plan {source(expected)} --map {mapping} -o {file} --library both").stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    both = [line["to_repository"] for line in lines if line["repository"] == "library/short"]
    assert sorted(both) == ["library/short", "short"]
    skipped = {
        f"{line['repository']}:{line['tag']}": line["reason"] for line in lines if line["action"] == "skip"
    }
    assert "Upper/Case:1" not in skipped
    assert skipped["lost/dangling:1"].startswith("dangling-tag")
    assert "would be taken in" in output
    kept = [line for line in lines if line["repository"] in ("Upper/Case", "library/short")]
    file.write_text("\n".join(map(json.dumps, kept)))
    result = command(data, f"run {source(expected)} --plan {file}")
    assert result.exit_code == 0
    assert opened.repositories.list(last="", limit=9).rows == ["library/short", "short", "upper/case"]
    file.write_text('{"repository": 1}')
    assert "line 1 of the plan" in command(data, f"run {source(expected)} --plan {file}", code=2).output


def test_two_names_that_become_one_are_refused(tmp_path: Path, data: Path) -> None:
    """Unless they are the same image, nobody can say which is meant."""
    tree = Tree(tmp_path / "old")
    for name, seed in (("library/x", "1"), ("team/x", "2")):
        tree.tag(name, "t", tree.image(seed, gzip.compress(seed.encode() * 512)))
    mapping = tmp_path / "names"
    mapping.write_text("team/x x\n")
    lines = command(data, f"plan v1-tree:{tree.root} --map {mapping}").stdout.splitlines()
    assert all(json.loads(line)["reason"].startswith("collision") for line in lines)
    mapping.write_text("one two three\n")
    assert (
        "line 1 of the mapping" in command(data, f"plan v1-tree:{tree.root} --map {mapping}", code=2).output
    )


def test_filters(tmp_path: Path, data: Path) -> None:
    """By globs, by date, and the latest of each."""
    tree = Tree(tmp_path / "old")
    for number in range(1, 5):
        image = tree.image(str(number), gzip.compress(bytes(512 * number)))
        tree.tag("team/app", f"v{number}", image, updated=1_400_000_000 + number * 86_400)

    def chosen(line: str) -> list[str]:
        lines = command(data, f"plan v1-tree:{tree.root} {line}").stdout.splitlines()
        return [each["tag"] for each in map(json.loads, lines) if each["action"] == "import"]

    assert chosen("") == ["v1", "v2", "v3", "v4"]
    assert chosen("--include */app:v[12]") == ["v1", "v2"]
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
    """Each repository is in one of the parts, so that several machines can share the work."""
    parts = []
    for part in "123":
        lines = command(data, f"plan {source(expected)} --shard {part}/3").stdout.splitlines()
        told = [json.loads(line) for line in lines]
        parts.append({line["repository"] for line in told if line["action"] != "leave"})
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set.union(*parts) == {named(tag).rpartition(":")[0] for tag in (*expected.good, *expected.bad)}
    for wrong in ("0/3", "4/3", "1", "a/b"):
        assert "is not I/N" in command(data, f"plan {source(expected)} --shard {wrong}", code=2).output


def test_what_is_not_chosen_is_no_failure(expected: Expected, data: Path) -> None:
    """A run that did all that was wanted ends with 0, and speaks of nothing else."""
    told = json.loads(command(data, f"run {source(expected)} --include team/twin --json").stdout)
    assert [tag["tag"] for tag in told["tags"]] == ["team/twin:1"]
    assert "lost/" not in command(data, f"run {source(expected)} --include team/twin --dry-run").stdout
    assert "1 same" in command(data, f"run {source(expected)} --include team/twin").output


@pytest.mark.parametrize(
    "change",
    ["{", "[]", "5", '"text"', {"repository": 5}, {"unknown": "x"}, {"action": "move"}, {"updated": "soon"}],
)
def test_nonsense_in_a_plan(expected: Expected, data: Path, tmp_path: Path, change: object) -> None:
    """One readable line that says where, and nothing is taken in."""
    good = command(data, f"plan {source(expected)}").stdout.splitlines()[0]
    bad = json.dumps(json.loads(good) | change) if isinstance(change, dict) else change
    (tmp_path / "plan").write_text(f"{good}\n{bad}\n")
    output = command(data, f"run {source(expected)} --plan {tmp_path / 'plan'}", code=2).output
    assert "line 2 of the plan" in output
    assert content(data) == {}
