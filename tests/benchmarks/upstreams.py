"""``python -m tests.benchmarks.upstreams``: what it costs to pull through this registry from another one.

A cold pull through it is compared with one from the other registry itself, a warm one with one of a blob that
was pushed here. The two alternate, and each has a blob of its own for each sample. So the quotient of each
pair says more than the rates, on a machine that is not quiet.
"""

import argparse
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.blobs import Blob, mebibytes, size
from tests.benchmarks.images import with_digest
from tests.benchmarks.wire import STREAM, Connection
from tests.clients.stock import stock_registry
from tests.programs import dualreg_process, free_port, require, running, wait_until_up

_NAME = "team/app"
_PIECE = 1 << 20
#: What a line of a gigabit carries, in MiB per second.
_RATE = 112


def main() -> None:
    """Run both servers, and print the quotients."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-", dir=options.folder) as folder:
        for line in measure(Path(folder), options.size << 20, options.rounds):
            sys.stdout.write(f"{line}\n")


def measure(folder: Path, length: int, rounds: int) -> Sequence[str]:
    """Return a line for cold pulls over lines of two speeds, and one for a warm pull.

    Args:
        length: Bytes of each blob.
        rounds: Pairs of samples, besides one that is not counted.
    """
    near, far = ([Blob(length) for _ in range(rounds + 1)] for _ in range(2))
    with stock_registry(folder / "stock", folder) as stock, _line_to(stock.host, folder) as line:
        for blob in (*near, *far):
            _push(stock.host, f"/v2/{_NAME}", blob)
        upstreams = f"near/*=http://{stock.host}, far/*=http://{line}"
        with dualreg_process(folder / "data", upstreams=upstreams, audit="off", access_log="false") as ours:
            own = Blob(length)
            _push(ours.host, "/v2/own", own)
            pairs = {
                f"cold pull of {size(length)} over a line of {_RATE} MiB/s": _pairs(
                    (line, _NAME), (ours.host, f"far/{_NAME}"), zip(far, far, strict=True)
                ),
                f"cold pull of {size(length)} over loopback": _pairs(
                    (stock.host, _NAME), (ours.host, f"near/{_NAME}"), zip(near, near, strict=True)
                ),
                f"warm pull of {size(length)}, beside one that was pushed": _pairs(
                    (ours.host, "own"), (ours.host, f"near/{_NAME}"), ((own, blob) for blob in near)
                ),
            }
    return [_result(title, found) for title, found in pairs.items()]


def _pairs(
    direct: tuple[str, str], through: tuple[str, str], blobs: Iterable[tuple[Blob, Blob]]
) -> list[tuple[float, float]]:
    """Return the rates of pulls of one blob each from two places, which alternate."""
    return [(_pull(*direct, one), _pull(*through, other)) for one, other in blobs]


@contextmanager
def _line_to(host: str, folder: Path) -> Iterator[str]:
    """Run an nginx before a registry that sends no faster than a line of a gigabit; yield HOST:PORT."""
    require("nginx", package="nginx")
    own, log = f"127.0.0.1:{free_port()}", folder / "nginx.log"
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; worker_processes 1;\n"
        "events {} http { access_log off; client_max_body_size 0; proxy_http_version 1.1;\n"
        "proxy_max_temp_file_size 0;\n"
        f"server {{ listen {own}; location / {{ proxy_pass http://{host}; limit_rate {_RATE}m; }} }} }}\n"
    )
    with running(["nginx", "-p", folder, "-c", configuration], log) as process:
        wait_until_up(f"http://{own}/v2/", process, log)
        yield own


def _result(title: str, pairs: Sequence[tuple[float, float]]) -> str:
    direct, through = (statistics.median(each) for each in zip(*pairs[1:], strict=True))
    quotient = statistics.median(one / other for one, other in pairs[1:])
    return f"{title:54} {direct:6,.0f} : {through:6,.0f} MiB/s   takes {quotient:.2f} times as long"


def _push(host: str, path: str, blob: Blob) -> None:
    with Connection(host) as connection:
        location = connection.ask("POST", f"{path}/blobs/uploads/").location
        headers = {"Content-Length": str(blob.length), **STREAM}
        connection.ask("PUT", with_digest(location, blob.digest), blob.pieces(), headers)


def _pull(host: str, name: str, blob: Blob) -> float:
    """Return in how many MiB per second a blob comes."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(host, timeout=120)
    connection.request("GET", f"/v2/{name}/blobs/{blob.digest}")
    response, received = connection.getresponse(), 0
    read: Callable[[int], bytes] = response.read1
    while piece := read(_PIECE):
        received += len(piece)
    rate = mebibytes(blob.length, began)
    connection.close()
    if (response.status, received) != (200, blob.length):
        raise SystemExit(f"{name}: {response.status}, {received} bytes")
    return rate


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.upstreams", description=main.__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB of each blob, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work; default: the system's temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
