"""The benchmarks run; what they find is for people to read."""

import json
import re
import socketserver
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.benchmarks import growth, locks, scale, sizing, steps, ui_pages, upstreams
from tests.benchmarks.costs import Cost
from tests.benchmarks.large_store import COMMANDS
from tests.benchmarks.load import CONNECTIONS, load
from tests.benchmarks.profile import PARTS
from tests.benchmarks.rows import Line, Row, measure
from tests.benchmarks.servers import Server, has_nginx
from tests.benchmarks.wire import Refused
from tests.programs import dualreg_server, require


def test_transactions_are_measured(tmp_path: Path) -> None:
    """Of each operation there is a line with the longest one."""
    lines = [*locks.measure(tmp_path, 40)]
    assert len(lines) == 5
    assert all(0 < longest <= total for _, total, longest, _ in lines)


@pytest.mark.slow
def test_requests_of_a_push_are_measured(tmp_path: Path) -> None:
    """Each as often as an image takes it, in each round; the table says by how much it changed."""
    with closing(steps.measure(tmp_path)) as rounds:
        times = next(rounds)
    images = len(times["PUT manifest"])
    assert {step: len(taken) for step, taken in times.items()} == {
        step: count * images for step, count in steps.STEPS.items()
    }
    twice = {step: [2 * each for each in taken] for step, taken in times.items()}
    assert len(re.findall(r" -50\.0%$", steps.text([twice, times]), re.MULTILINE)) == len(steps.STEPS) + 1


@pytest.mark.slow
@pytest.mark.client
def test_pulls_through_this_registry_are_measured(tmp_path: Path) -> None:
    """Cold ones over two lines, and warm ones; each is compared with one that needs nothing in between."""
    lines = upstreams.measure(tmp_path, 4 << 20, 1)
    assert [line.split()[0] for line in lines] == ["cold", "cold", "warm"]
    assert all(re.search(r"takes \d+\.\d\d times as long$", line) for line in lines)


@pytest.mark.slow
def test_sizes_are_measured() -> None:
    """Of the main process and each worker, and of each image in the catalog and the store."""
    idle, busy, catalog, links = sizing.measure(4, 2)
    assert len(re.findall(r"\d+ \+ \d+ \+ \d+ MiB", f"{idle}{busy}")) == 2
    assert re.fullmatch(r"catalog: -?[\d,]+ bytes for each image", catalog)  # of few, it need not grow
    assert links == "link files: 5.0 for each image"


@pytest.mark.slow
@pytest.mark.client
def test_a_quick_run_measures_every_row_on_every_registry(tmp_path: Path) -> None:
    """Every registry has a figure for what it can do, and ours a ratio; nothing stays on the disk."""
    require("docker-registry", package="docker-registry")
    require("nginx", "openssl", package="nginx and openssl")
    with dualreg_server(tmp_path / "other", access_log="false") as host:
        done, measured = _run(tmp_path, "--auth", "--rounds", "2", "--against", f"other={host}")
    ours = {"dualreg", "nginx", "accounts"}
    assert len(measured["rows"]) == 27
    for row in measured["rows"]:
        named = ours | {"other"} | (set() if row["row"].startswith("V1 ") else {"docker-registry"})
        if "/token" in row["row"]:
            named = ours - {"nginx"}
        assert row["medians"].keys() == named, row["row"]
        assert all(len(taken) == 2 and min(taken) > 0 for taken in row["samples"].values())
        assert row["reference"] == min(named - ours, default=None)
        assert {name for name, ratio in row["ratios"].items() if ratio} == (ours if named - ours else set())
        assert row["row"] in done.stdout
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"other"}


@pytest.mark.slow
@pytest.mark.client
@pytest.mark.s3
def test_registries_over_an_object_store_are_measured(tmp_path: Path) -> None:
    """Beside the reference registry over the same one."""
    require("docker-registry", package="docker-registry")
    require("radosgw", "ceph-mon", "ceph-osd", "ceph", package="radosgw ceph-mon ceph-osd ceph-common")
    _, measured = _run(tmp_path, "--shape", "objects", "--rows", "push an image*", "--rows", "GET manifest*")
    assert [row["medians"].keys() for row in measured["rows"]] == [{"objects", "docker-registry"}] * 3


@pytest.mark.slow
def test_a_profile_divides_the_time_of_a_request(tmp_path: Path) -> None:
    """Of the requests that match a pattern, on dualreg alone; of dualreg behind nginx there is the total."""
    done, measured = _run(tmp_path, "--profile", "--auth", "--rows", "get manifest*", "--rows", "*token*")
    titles = {(each["server"], each["row"]) for each in measured["profiles"]}
    assert titles >= {
        (server, row)
        for server in ("dualreg", "accounts")
        for row in ("GET manifest by tag", "GET manifest by digest", "GET /token with a password")
    }
    assert ("nginx", "GET manifest by tag") in titles or not has_nginx()
    for each in measured["profiles"]:
        assert each["row"] in done.stdout
        if each["server"] not in {"dualreg", "accounts"}:
            assert not each["parts"]
            continue
        assert each["parts"].keys() == {*PARTS}
        assert each["total"] > each["parts"]["server"]
        assert each["total"] == pytest.approx(sum(each["parts"].values()))


@pytest.mark.slow
def test_unknown_rows_are_an_error() -> None:
    """The message lists those that exist."""
    line = [sys.executable, "-m", "tests.benchmarks", "--rows", "GET nothing"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "GET manifest by tag" in done.stderr


def _run(folder: Path, *options: str) -> tuple["subprocess.CompletedProcess[str]", dict[str, Any]]:
    """Make a quick run with a folder; return it and what it wrote as JSON."""
    figures = folder / "figures.json"
    line = [sys.executable, "-m", "tests.benchmarks", "--quick", "--folder", folder, "--json", figures]
    done = subprocess.run([*line, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done, json.loads(figures.read_text())


def test_ratios_are_above_one_where_ours_is_better() -> None:
    """Twice the rate is as good as half the time; without the other there is no ratio."""
    samples = {"dualreg": [1.0, 2.0, 90.0], "docker-registry": [4.0]}
    for higher_is_better, ratio in ((True, 0.5), (False, 2.0)):
        row = Row("a row", "s", lambda _: lambda: 1.0, higher_is_better=higher_is_better)
        line = Line(row, samples, {})
        assert line.medians["dualreg"] == 2
        assert line.ratio("dualreg", "docker-registry") == ratio
        assert line.ratio("nginx", "docker-registry") is None


def test_rounds_are_taken_in_turns_and_a_registry_that_fails_is_left_out() -> None:
    """A B A B …; why another one has no figure is noted, but none of ours may lack one."""
    asked: list[str] = []

    def start(server: Server) -> Callable[[], float]:
        def sample() -> float:
            asked.append(server.name)
            if asked.count(server.name) == 2 and server.name == "failing":
                raise Refused("no")
            return 1.0

        return sample

    servers = [Server(name, "", speaks_v1=True, ours=name == "dualreg") for name in ("dualreg", "failing")]
    line = measure(Row("a row", "s", start), servers, 3)
    assert asked == ["dualreg", "failing", "dualreg", "failing", "dualreg"]
    assert line.samples == {"dualreg": [1.0, 1.0, 1.0]}
    assert line.refusals == {"failing": "no"}
    asked.clear()
    with pytest.raises(Refused):
        measure(Row("a row", "s", start), [replace(servers[1], ours=True)], 2)


@pytest.mark.parametrize("pause", [0, 0.002])
def test_load_counts_whole_answers(pause: float) -> None:
    """In whatever pieces they come, and if the server closes the connection after some."""
    with _answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", pause) as (host, answers):
        answered = load(host, [b"GET / HTTP/1.1\r\n\r\n"], 200, 3, 0.2)
    assert 0 < answered.count <= len(answers) <= answered.count + CONNECTIONS


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 503 Busy\r\n\r\na",
        b"",
    ],
)
def test_load_refuses_other_answers(answer: bytes) -> None:
    """At once: a wrong status, one byte too many or too few, and no answer at all."""
    with _answering(answer, times=1 if not answer else 3) as (host, _), pytest.raises(Refused):
        load(host, [b"GET / HTTP/1.1\r\n\r\n"], 200, 3, 5)


@contextmanager
def _answering(answer: bytes, pause: float = 0, times: int = 3) -> Iterator[tuple[str, list[bytes]]]:
    """Run a server that answers so many requests on each connection, in two pieces if there is a pause.

    It yields HOST:PORT, and a list of what was answered.
    """
    answers: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            for _ in range(times):
                if not self.request.recv(1000):
                    return
                middle = len(answer) - 2 if pause else 0
                self.request.sendall(answer[:middle])
                time.sleep(pause)
                self.request.sendall(answer[middle:])
                answers.append(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients go away
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}", answers
        finally:
            server.shutdown()


@pytest.mark.slow
def test_a_large_store_is_rebuilt_and_checked(tmp_path: Path) -> None:
    """However small it is here, all that is measured succeeds."""
    line = [sys.executable, "-m", "tests.benchmarks.large_store", "--links", "500", "--folder", tmp_path]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [each.partition(":")[0] for each in done.stdout.splitlines()[1:]] == [*COMMANDS, "catalog"]
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.s3
def test_costs_are_measured() -> None:
    """Each request costs an instance and the database something, and a push the object store, too."""
    require("radosgw", "ceph-mon", "ceph-osd", "ceph", package="radosgw ceph-mon ceph-osd ceph-common")
    line = [sys.executable, "-m", "tests.benchmarks.scale", "--seconds", "0.1", "--images", "500"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    costs = [line.split()[-5:] for line in done.stdout.splitlines()[2:8]]
    assert all(float(cost.replace(",", "")) > 0 for line in costs for cost in line[:2])
    assert all(float(cost) > 0 for cost in costs[0][3:])


def test_needs_add_up() -> None:
    """Of processors twice as many for twice the requests; of space, as the blobs say."""
    demand = scale.Demand(pulls=1e5, unchanged=0.5, layers=4, pushes=10, blobs=1e6, size=1e6)
    cost = Cost(instance=600, database=60, logged=0, reads=0, writes=1)
    kinds = dict.fromkeys(demand.requests, cost)
    text = "\n".join(scale.calculation(demand, kinds, row=1000))
    requests = 1e5 * (1 + 0.5 + 0.5 * (2 + 4 + 1)) + 10
    assert f"requests: {requests:,.0f}/s" in text
    assert "instances: 126," in text
    assert f"database: {requests * 60e-6 / 0.6:.1f} processors" in text
    assert "1 GB; " in text
    assert "object store: 1 TB; 250,000 reads/s" in text


@pytest.mark.slow
def test_growth_is_measured(tmp_path: Path) -> None:
    """Of each kind of read there is a line, from a small registry and a large one."""
    command = [sys.executable, "-m", "tests.benchmarks.growth", "--folder", str(tmp_path)]
    sizes = ["--small", "20", "--large", "60", "--reads", "5", "--views", "2"]
    done = subprocess.run([*command, *sizes], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("99 % within") == len(growth.ROWS) + len(growth.PAGES)
    assert done.stdout.count("95 % within") == len(ui_pages.VIEWS) > 40
    assert done.stdout.count("pages of which less than 95 % take 100 ms") == 2
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
