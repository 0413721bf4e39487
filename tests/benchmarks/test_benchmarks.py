"""The benchmarks run; what they find is for people to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import locks
from tests.benchmarks.large_store import COMMANDS
from tests.programs import require


def test_transactions_are_measured(tmp_path: Path) -> None:
    """Of each operation there is a line with the longest one."""
    lines = [*locks.measure(tmp_path, 40)]
    assert len(lines) == 5
    assert all(0 < longest <= total for _, total, longest, _ in lines)


@pytest.mark.slow
@pytest.mark.client
def test_a_quick_run_measures_every_operation_on_both_registries(tmp_path: Path) -> None:
    """Every rate and time is a positive number; only V1 has no rival; nothing stays on the disk."""
    require("docker-registry", package="docker-registry")
    require("wrk", package="wrk")
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--quick", "--json", figures, "--folder", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(figures.read_text())["operations"]
    assert len(measured) == 10
    assert all(line["dualreg"] > 0 for line in measured)
    rivalled = {line["operation"] for line in measured if line["ratio"] is not None}
    assert rivalled == {line["operation"] for line in measured if not line["operation"].startswith("V1 ")}
    assert all(line["operation"] in done.stdout for line in measured)
    assert [*tmp_path.iterdir()] == [figures]


@pytest.mark.slow
def test_a_large_store_is_rebuilt_and_checked(tmp_path: Path) -> None:
    """However small it is here, all that is measured succeeds."""
    line = [sys.executable, "-m", "tests.benchmarks.large_store", "--links", "500", "--folder", tmp_path]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [each.partition(":")[0] for each in done.stdout.splitlines()[1:]] == [*COMMANDS, "catalog"]
    assert not [*tmp_path.iterdir()]
