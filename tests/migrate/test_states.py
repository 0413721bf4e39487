"""How far runs are: as the reports say, from a bounded part of the journals, while they are running, too."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualreg.assembly import prepare
from dualreg.cli import main
from dualreg.migrate import journal, states
from dualreg.migrate.findings import HARMLESS, FindingKind
from dualreg.migrate.journal import Journal
from dualreg.migrate.mending import OTHER, kind_of, mending
from dualreg.migrate.report import read_report
from dualreg.migrate.states import RunStatus, list_runs, run_state
from dualreg.settings import Settings
from tests.programs import unannounced

SOURCE, BEGAN = "v1-tree:/srv/old", datetime(2026, 1, 1, tzinfo=UTC)
REASONS = {
    "partial: 4b5e: an unfinished push": "partial",
    "bad-name: Team/Legacy: map Team/Legacy to a valid name": "bad-name",
    "tag already exists and points to sha256:0": "existing",
    "something else: nobody knows": OTHER,
}


def _write(folder: Path, number: int, tags: int = 0, *events: tuple[str, dict[str, object]]) -> str:
    """Write the journal of a run with some tags of every status, and then *events*; return its name."""
    writing = Journal(folder, BEGAN + timedelta(days=number), SOURCE)
    writing.write("pointing", repository="a", tag="1")
    for place in range(tags):
        reason = [*REASONS][place % 4] if place % 2 else ""
        writing.write(
            "tag", durable=False, source=f"a:{place}", repository="a", tag=str(place), image="",
            reason=reason, status="skipped" if reason else "done", digest="", bytes=10,
        )  # fmt: skip
    for event, facts in events:
        writing.write(event, **facts)
    return writing.path.stem


END, STOPPED, UNDONE = ("end", {"stopped": False}), ("end", {"stopped": True}), ("undone", {})


@pytest.mark.parametrize(
    ("events", "status"),
    [
        ((END,), RunStatus.ENDED),
        ((STOPPED,), RunStatus.INTERRUPTED),
        ((), RunStatus.INTERRUPTED),
        ((STOPPED, END), RunStatus.ENDED),
        ((END, UNDONE), RunStatus.UNDONE),
    ],
)
def test_what_became_of_runs(
    tmp_path: Path, events: tuple[tuple[str, dict[str, object]], ...], status: RunStatus
) -> None:
    """As the report of the run says."""
    run = _write(tmp_path, 0, 8, *events)
    (found,), following = list_runs(tmp_path, limit=9)
    report = read_report(tmp_path, run)
    assert following is None
    assert (found.run, found.at, found.source) == (run, report.at, report.source)
    assert found.status is status
    assert found.counts == report.counts == {"done": 4, "skipped": 4}
    assert not found.partial
    assert report.undone == (status is RunStatus.UNDONE)


def test_a_run_in_progress(tmp_path: Path) -> None:
    """It holds the lock, and looking at it does not; earlier ones that did not end are interrupted."""
    runs = [_write(tmp_path, number, 2) for number in range(2)]
    with journal.exclusive(tmp_path):
        found, _ = list_runs(tmp_path, limit=9)
        assert [each.status for each in found] == [RunStatus.RUNNING, RunStatus.INTERRUPTED]
        assert run_state(tmp_path, runs[1]).run.status is RunStatus.RUNNING
        with pytest.raises(journal.JournalBusy), journal.exclusive(tmp_path):
            pass
    assert {each.status for each in list_runs(tmp_path, limit=9)[0]} == {RunStatus.INTERRUPTED}
    with journal.exclusive(tmp_path):
        pass


def test_pages(tmp_path: Path) -> None:
    """Together they are all runs, the newest first; without a folder there are none."""
    assert list_runs(tmp_path / "none", limit=3) == ([], None)
    runs = [_write(tmp_path, number, 0, END) for number in range(7)]
    found, before, pages = list[str](), "", 0
    while True:
        rows, following = list_runs(tmp_path, before=before, limit=3)
        found += (each.run for each in rows)
        pages += 1
        if following is None:
            break
        before = following
    assert found == runs[::-1]
    assert pages == 3


def test_what_was_left_out(tmp_path: Path) -> None:
    """By the kind of reason, with what to do, and some of the tags."""
    run = _write(tmp_path, 0, 40, ("image", {"id": "a", "verified": True}), ("image", {"id": "b"}), END)
    found = run_state(tmp_path, run)
    assert (found.bytes, found.images, found.verified) == (400, 2, 1)
    assert {each.kind: each.tags for each in found.left_out} == {"bad-name": 10, OTHER: 10}
    by_kind = {each.kind: each for each in found.left_out}
    assert "--map" in by_kind["bad-name"].mend
    assert len(by_kind["bad-name"].examples) == 5
    assert by_kind["bad-name"].examples[0].startswith("a:1: bad-name: Team/Legacy")


def test_long_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only their end is read, and that is said; a line that is being written does not matter."""
    run = _write(tmp_path, 0, 1000, END)
    with (tmp_path / f"{run}.jsonl").open("ab") as file:
        file.write(b'{"event": "tag", "sour')
    monkeypatch.setattr(states, "_LISTED", 5000)
    (found,), _ = list_runs(tmp_path, limit=1)
    assert found.partial
    assert found.source == SOURCE
    assert found.status is RunStatus.ENDED
    assert 10 < sum(found.counts.values()) < 50
    whole = run_state(tmp_path, run).run
    assert not whole.partial
    assert sum(whole.counts.values()) == 1000


def test_every_reason_has_its_mending() -> None:
    """Also those that keep tags out under an option only."""
    assert {reason: kind_of(reason) for reason in REASONS} == REASONS
    for kind in {*FindingKind} - HARMLESS:
        assert kind_of(f"{kind}: x: y") == kind
        assert mending(kind)
    assert mending(OTHER) == "the message says what is wrong"


def test_an_unknown_run(tmp_path: Path) -> None:
    """Nor is there one of a path."""
    _write(tmp_path, 0, 1)
    for name in ("none", "../x", ""):
        with pytest.raises(ValueError, match="there is no run"):
            run_state(tmp_path, name)


def test_the_commands(tmp_path: Path) -> None:
    """A table, sentences, and JSON."""

    def invoke(*line: str) -> str:
        result = CliRunner().invoke(main, [*line, "--data", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return unannounced(result).output

    prepare(Settings.model_validate({"data": tmp_path}))
    assert "There are no runs." in invoke("migrate", "runs")
    run = _write(tmp_path / "migrations", 0, 4, END)
    assert f"{run}  2026-01-01T00:00:00  {SOURCE}  ended   2 done, 2 skipped" in invoke("migrate", "runs")
    assert json.loads(invoke("migrate", "runs", "--json"))["counts"] == {"done": 2, "skipped": 2}
    text = invoke("migrate", "status", run)
    assert f"run {run} of {SOURCE}: ended" in text
    assert "bad-name: 1 tag: map it with --map; the message proposes a name" in text
    assert json.loads(invoke("migrate", "status", run, "--json"))["run"]["status"] == "ended"
