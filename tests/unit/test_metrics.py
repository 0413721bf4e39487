"""Metrics: their files add up whatever processes do, and what operators are given names those there are."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families

from dualreg.monitoring import folder as folder_module
from dualreg.monitoring import metrics as module
from dualreg.monitoring.figures import SharedFigures
from dualreg.monitoring.folder import MetricsFolder
from dualreg.monitoring.metrics import Metrics
from dualreg.monitoring.names import METRICS, PREFIX
from dualreg.monitoring.page import State, page
from tests.programs import require

ROOT = Path(__file__).parents[2]
GIVEN = ROOT / "docs/monitoring"
STATE = State({}, is_stopping=False, is_read_only=False, room=5)
#: What samples of a histogram are called besides.
_ENDS = re.compile(r"_(?:bucket|sum|count)$")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MetricsFolder]:
    """The folder of a server that counts in the data directory."""
    monkeypatch.setattr(folder_module, "_MEMORY", tmp_path / "none")
    made = MetricsFolder(tmp_path)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", f"{made.path}")
    yield made
    made.remove()
    assert not made.path.exists()


def in_process(folder: MetricsFolder, work: Callable[[Metrics], object], *, end: int = 0) -> int:
    """Count in a process of its own, which ends by a signal if *end* is one; return its id."""
    child = os.fork()
    if not child:
        folder.reserve(os.getpid())
        module.join()
        work(Metrics())
        if end:
            os.kill(os.getpid(), end)
        os._exit(0)
    os.waitpid(child, 0)
    return child


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the values of a page, by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def total(text: bytes, name: str, **labels: str) -> float:
    """Return the sum of the values of a metric that have these labels."""
    wanted = labels.items()
    return sum(
        value for (each, own), value in samples(text).items() if each == PREFIX + name and wanted <= own
    )


def test_processes_add_up_and_the_dead_stay(folder: MetricsFolder) -> None:
    """However they end; of many that have ended, there is one file of a kind, and no gauge."""

    def work(metrics: Metrics) -> None:
        for _ in range(3):
            metrics.count_request("/v2/", "GET", "200", 0.003, received=2, sent=10)
        metrics.count_operation("file", "stat", 0.1, failed=True)
        metrics.sample({"threads": 4})
        metrics.flush()

    def look() -> tuple[float, ...]:
        found = page(folder, None, STATE)
        return (
            total(found, "http_requests_total", route="/v2/", method="GET", status="200"),
            total(found, "http_request_duration_seconds_count", route="/v2/"),
            total(found, "http_request_duration_seconds_bucket", route="/v2/", le="0.0025"),
            total(found, "http_request_duration_seconds_bucket", route="/v2/", le="0.005"),
            total(found, "http_response_bytes_total"),
            total(found, "http_request_bytes_total"),
            total(found, "store_failures_total", driver="file", operation="stat"),
        )

    ends = [0, signal.SIGKILL, 0, signal.SIGTERM]
    children = [in_process(folder, work, end=end) for end in ends]
    expected = (12, 12, 0, 12, 120, 24, 4)
    assert look() == expected
    assert total(page(folder, None, STATE), "threads") == 16
    folder.retire(children[3:])
    assert look() == expected
    assert total(page(folder, None, STATE), "threads") == 4
    with folder.reading():
        folder.retire([])  # later
        assert len([*folder.path.glob(f"*_{children[3]}.db")]) == 3
    folder.retire([])
    assert look() == expected
    assert sorted(each.name for each in folder.path.glob("*.db")) == ["counter_0.db", "histogram_0.db"]
    in_process(folder, work)
    assert look()[0] == 15


def test_histograms_are_those_of_the_library(folder: MetricsFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is added at once is what would have been observed one by one."""
    seconds = [0, 0.001, 0.0011, 0.5, 10, 11, 600, 601, 0.3, 0.0005] * 50

    def work(metrics: Metrics) -> None:
        for number, each in enumerate(seconds):
            metrics.count_request("/", "GET", "200", each)
            if number % 7 == 0:
                metrics.flush()
        metrics.flush()

    in_process(folder, work)
    monkeypatch.setattr(values, "ValueClass", values.MutexValue)
    registry, name = CollectorRegistry(), f"{PREFIX}http_request_duration_seconds"
    kind = Histogram(name, "x", ["route", "method"], registry=registry, buckets=module._REQUESTS)
    for each in seconds:
        kind.labels("/", "GET").observe(each)
    expected = {
        key: value for key, value in samples(generate_latest(registry)).items() if "created" not in key[0]
    }
    found = samples(page(folder, None, STATE))
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_clients_make_up_no_label(folder: MetricsFolder) -> None:
    """Whatever they send for a method, and whatever the status is, the values are from fixed sets."""

    def work(metrics: Metrics) -> None:
        for number in range(1000):
            metrics.count_request("none", f"METHOD{number}", f"{600 + number}", 0.0)
        metrics.flush()

    in_process(folder, work)
    found = page(folder, None, STATE)
    labels = {own for (name, own), _ in samples(found).items() if name == f"{PREFIX}http_requests_total"}
    assert labels == {frozenset({("route", "none"), ("method", "other"), ("status", "0")})}


def test_the_files_have_room_for_all_labels(folder: MetricsFolder) -> None:
    """A file that has to grow could not, on a full disk; there are more than half as many again here."""
    routes = [f"/v2/<name>/a/long/route/{number}/<reference>" for number in range(80)]

    def work(metrics: Metrics) -> None:
        for route in routes:
            for method in ("GET", "HEAD", "OPTIONS"):
                for status in range(400, 408):
                    metrics.count_request(route, method, f"{status}", 1.0, received=1, sent=1)
        metrics.flush()

    child = in_process(folder, work)
    sizes = {each.stem.removesuffix(f"_{child}"): each.stat().st_size for each in folder.path.glob("*.db")}
    assert sizes == folder_module._SIZES


def test_a_folder_that_was_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a server that was killed; not that of one that runs, or is about to."""
    monkeypatch.setattr(folder_module, "_MEMORY", tmp_path)
    running = MetricsFolder(tmp_path)
    young, left = tmp_path / "dualreg-metrics-young", tmp_path / "dualreg-metrics-left"
    for each in (young, left):
        each.mkdir()
        (each / "alive").touch()
    for each in (left, running.path):
        os.utime(each, (0, 0))
    MetricsFolder(tmp_path).remove()
    assert not left.exists()
    assert young.exists()
    assert running.path.exists()
    running.remove()


def test_folders_of_other_users_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may make one in memory; a pipe in it, which nobody writes to, would stop the server."""
    monkeypatch.setattr(folder_module, "_MEMORY", tmp_path)
    (other := tmp_path / "dualreg-metrics-other").mkdir()
    os.mkfifo(other / "alive")
    os.utime(other, (0, 0))
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    MetricsFolder(tmp_path).remove()
    assert other.exists()


def no_space(*_: int) -> None:
    """Fail as a full disk does."""
    raise OSError(28, "no space left on device")


def test_a_full_disk_is_found_out_before_anything_is_counted(
    folder: MetricsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker then has no metrics, and serves."""
    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(OSError, match="no space"):
        folder.reserve(1)
    assert page(folder, None, STATE)
    folder.retire([])


def test_a_disk_that_becomes_full_ends_no_process(
    folder: MetricsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has counted stays where it is until there is room to add it to the rest."""
    in_process(folder, lambda metrics: (metrics.count_editions("views", 3), metrics.flush()))
    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", no_space)
        folder.retire([])
        assert total(page(folder, None, STATE), "editions_made_total") == 3
        folder.retire([])
    folder.retire([])
    assert total(page(folder, None, STATE), "editions_made_total") == 3
    assert {each.name for each in folder.path.glob("*.db")} == {"counter_0.db", "histogram_0.db"}


def expressions() -> Mapping[str, str]:
    """Return every expression that operators are given, by where it is."""
    dashboard = json.loads((GIVEN / "dashboard.json").read_text())
    rules = yaml.safe_load((GIVEN / "alerts.yml").read_text())["groups"][0]["rules"]
    found = {f"rule {rule['alert']}": rule["expr"] for rule in rules}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("where", expressions())
def test_what_is_asked_for_exists(where: str) -> None:
    """Dashboard and rules name metrics and labels that there are."""
    expression = expressions()[where]
    for name, labels in re.findall(rf"{PREFIX}(\w+)(?:\{{([^}}]*)\}})?", expression):
        definition = METRICS.get(name) or METRICS[_ENDS.sub("", name)]
        assert name in METRICS or definition.kind == "histogram"
        asked = {*re.findall(r"(\w+)[!=]?[=~]", labels)} - {"instance", "le"}
        assert asked <= {*definition.labels}, where


def test_every_metric_is_used_and_documented() -> None:
    """In the dashboard, or in the rules; and in the table, with its kind, labels and meaning."""
    asked = " ".join(expressions().values())
    assert [name for name in METRICS if not re.search(rf"{PREFIX}{name}(?:_bucket|_count)?\b", asked)] == [
        "figures_duration_seconds",
        "gc_last_complete",
    ]
    text = (ROOT / "docs/monitoring.md").read_text()
    for name, each in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in each.labels) or "\u2013"
        assert f"| `{PREFIX}{name}` | {each.kind} | {labels} | {each.help} |" in text
    assert {*re.findall(rf"^\| `{PREFIX}(\w+)`", text, re.MULTILINE)} == {*METRICS}


def test_the_rules_are_valid() -> None:
    """As Prometheus itself finds."""
    require("promtool", package="prometheus")
    done = subprocess.run(
        ["promtool", "check", "rules", GIVEN / "alerts.yml"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_have_places_of_their_own() -> None:
    """The dashboard can be imported: ids are unique, and no panel covers another."""
    dashboard = json.loads((GIVEN / "dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for place in (panel["gridPos"] for panel in panels):
        own = {(x, y) for x in range(place["x"], place["x"] + place["w"])
               for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not taken & own
        assert place["x"] + place["w"] <= 24
        taken |= own


def test_a_look_that_fails_is_not_repeated_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the reason: scrapes go on without the figures, and the log says why, once."""
    looks = list[int]()

    def look() -> dict[str, object]:
        looks.append(1)
        raise ValueError("a row that nobody expected")

    figures = SharedFigures(tmp_path, look)
    assert [figures.known() for _ in range(3)] == [None, None, None]
    assert (len(looks), len(caplog.records)) == (1, 1)
    assert caplog.records[0].exc_info
