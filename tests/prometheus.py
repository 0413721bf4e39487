"""A real Prometheus on loopback, which scrapes a server of ours every second."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.programs import free_port, require, running, wait_until_up

_CONFIGURATION = """\
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: dualreg
    static_configs: [{{targets: ["{target}"]}}]
"""


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[[str], Sequence[Any]]]:
    """Run Prometheus with its files in *folder*; yield what evaluates an expression of a dashboard.

    The test is skipped if it is not installed.

    Args:
        target: The address that has ``/metrics``.
    """
    require("prometheus", package="prometheus")
    address, file, log = f"127.0.0.1:{free_port()}", folder / "prometheus.yml", folder / "prometheus.log"
    file.write_text(_CONFIGURATION.format(target=target))
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'series'}"]

    def evaluate(expression: str) -> Sequence[Any]:
        text = expression.replace("$instance", ".*").replace("$__rate_interval", "1m")
        with closing(HTTPConnection(address, timeout=20)) as connection:
            connection.request("GET", f"/api/v1/query?{urlencode({'query': text})}")
            answer = json.loads(connection.getresponse().read())
        assert answer["status"] == "success", (expression, answer)
        found: Sequence[Any] = answer["data"]["result"]
        return found

    with running([*command, f"--web.listen-address={address}"], log) as process:
        wait_until_up(f"http://{address}/-/ready", process, log, 60)
        yield evaluate
