"""``python -m tests.benchmarks.steps``: what each request of a push costs the application, in this process.

The WSGI application is called as a server would, and only processor time is measured, of which the fastest
third of the calls counts. So other work on the machine disturbs little. With ``--against``, another checkout
is measured in turns with this one: the same requests, within the same seconds.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from flask import Flask
from werkzeug.test import create_environ

from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.web.context import close
from tests.benchmarks.images import new_image, with_digest
from tests.benchmarks.report import table
from tests.benchmarks.servers import settings
from tests.benchmarks.wire import STREAM, Refused

#: The requests of a push in their order, and how many of each an image of one layer takes.
STEPS = {"HEAD blob": 2, "POST upload": 2, "PATCH upload": 2, "PUT upload": 2, "PUT manifest": 1}
#: Images of a round, and bytes of a layer.
_IMAGES, _LAYER = 12, 4000
_MICRO = 1e6
#: Microseconds of each call by step.
Times = dict[str, list[float]]


class Steps:
    """Pushes images, each into a repository of its own, and notes the processor time of each request."""

    def __init__(self, app: Flask) -> None:
        """Push to *app*; *count* is how many images were pushed."""
        self._app, self.count = app, 0
        self.times: Times = defaultdict(list)

    def push(self) -> None:
        """Push an image of one layer, as docker does.

        Raises:
            Refused: a request was not answered as expected.
        """
        self.count += 1
        name, image = f"bench/steps/{self.count}", new_image(1, _LAYER)
        for digest, content in image.blobs.items():
            self._push_blob(name, str(digest), content)
        path, kind = f"/v2/{name}/manifests/latest", {"Content-Type": image.media_type}
        self._ask("PUT manifest", path, image.manifest, kind, expected=201)

    def _push_blob(self, name: str, digest: str, content: bytes) -> None:
        self._ask("HEAD blob", f"/v2/{name}/blobs/{digest}", expected=404)
        location = self._ask("POST upload", f"/v2/{name}/blobs/uploads/", expected=202)
        location = self._ask("PATCH upload", location, content, STREAM, expected=202)
        self._ask("PUT upload", with_digest(location, digest), expected=201)

    def _ask(
        self, step: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, expected: int
    ) -> str:
        """Make a request, and return the location that is answered."""
        location, _, query = path.partition("?")
        environ = create_environ(
            location,
            "http://127.0.0.1:5000",
            query_string=query,
            method=step.partition(" ")[0],
            headers={"User-Agent": "docker/27.0"} | (headers or {}),
        )
        environ |= {"REMOTE_ADDR": "127.0.0.1", "RAW_URI": path}
        environ |= {"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)}
        answers: list[Any] = []
        began = time.process_time()
        answer: Any = self._app(environ, lambda *status: answers.append(status))
        b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        self.times[step].append((time.process_time() - began) * _MICRO)
        status, sent = answers[0][:2]
        if not status.startswith(str(expected)):
            raise Refused(f"{step} {path}: {status}")
        return dict(sent).get("Location", "")


def measure(folder: Path) -> Generator[Times]:
    """Yield the times of each round, after one that warms up; without an end."""
    app = create_app(Settings.model_validate({"data": folder, **settings(accounts=False)}))
    try:
        steps = Steps(app)
        while True:
            for _ in range(_IMAGES):
                steps.push()
            if steps.count > _IMAGES:
                yield dict(steps.times)
            steps.times.clear()
    finally:
        close(app)


def typical(times: Sequence[float]) -> float:
    """Return the mean of the fastest third, which was disturbed least."""
    fastest = sorted(times)[: max(len(times) // 3, 1)]
    return sum(fastest) / len(fastest)


def text(found: Sequence[Times]) -> str:
    """Return the table: microseconds, those of the other checkout first, and by how much they differ."""
    rows = [["request", *(["other"] if found[1:] else []), "this", "change"]]
    totals = [0.0 for _ in found]
    for step, count in STEPS.items():
        each = [typical(times[step]) for times in found]
        totals = [total + count * one for total, one in zip(totals, each, strict=True)]
        rows.append(_row(step, each))
    return "\n".join([*table([*rows, _row("an image", totals)], words=1), ""])


def _row(title: str, each: Sequence[float]) -> list[str]:
    return [title, *(f"{one:,.0f}" for one in each), f"{each[-1] / each[0] - 1:+.1%}"]


class _Checkout:
    """A process that pushes with the code of a checkout, a round whenever it is asked to."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve()), "--serve"],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def round(self) -> Times:
        """Make a round, and return its times."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())  # type: ignore[no-any-return]  # of ``serve``

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def compare(checkouts: Sequence[Path], rounds: int) -> list[Times]:
    """Return the times of each checkout, measured in turns."""
    found = [Times() for _ in checkouts]
    with ExitStack() as stack:
        running = [stack.enter_context(closing(_Checkout(each))) for each in checkouts]
        for _ in range(rounds):
            for times, each in zip(found, running, strict=True):
                for step, taken in each.round().items():
                    times.setdefault(step, []).extend(taken)
    return found


def serve() -> None:
    """Make a round for each line of the input, and print its times as a line of JSON."""
    with tempfile.TemporaryDirectory(prefix="dualreg-bench-") as folder:
        for _, times in zip(sys.stdin, measure(Path(folder)), strict=False):
            sys.stdout.write(json.dumps(times) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Print the processor time of each request of a push, in microseconds."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.steps", description=main.__doc__)
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="also measure another checkout")
    parser.add_argument("--rounds", type=int, default=12, metavar="N", help="of 12 images; default: 12")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    checkouts = [*filter(None, (options.against,)), Path(__file__).resolve().parents[2]]
    sys.stdout.write(text(compare(checkouts, options.rounds)))


if __name__ == "__main__":
    main()
