"""``dualreg follow`` beside rsync and a registry in use."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import builders
from tests.maintenance.load import load
from tests.maintenance.pulls import NotPulled, pull_everything
from tests.maintenance.test_follower import expected_rows, require_same
from tests.programs import (
    DUALREG,
    children,
    dualreg_server,
    free_port,
    require,
    require_root,
    running,
    until,
    wait_until_up,
)
from tests.protocol.clients.v2 import V2Client
from tests.protocol.clients.wire import Wire
from tests.soak import short_or_long

#: Seconds for which clients push while the copy is updated again and again.
LONG = short_or_long(3, 300)
#: A user and group without privileges.
NOBODY = 65534
#: What rsync exits with if files vanished while it ran; deletes do that.  Source: rsync(1), EXIT VALUES.
VANISHED = 24
COPIED = ["--include", "/docker/***", "--include", "/access.json", "--exclude", "*"]


@pytest.fixture(autouse=True)
def _program() -> None:
    require("rsync", package="rsync")


def rsync(source: Path, target: Path) -> None:
    """Update the copy, as the manual says."""
    command = ["rsync", "-a", "--delete", "--modify-window=-1", *COPIED, f"{source}/", f"{target}/"]
    assert subprocess.run(command, check=False).returncode in (0, VANISHED)


@contextmanager
def following(
    tree: Path, own: Path, *, wrapper: Sequence[str] = (), **settings: str
) -> Iterator[tuple[str, int]]:
    """Run ``dualreg follow`` on a free port; yield HOST:PORT and the process id.

    Args:
        wrapper: A command that is given ours to run.
    """
    host = f"127.0.0.1:{free_port()}"
    log = own.with_suffix(".log")
    command = [*wrapper, sys.executable, "-m", "dualreg", "follow"]
    command += ["--follow", f"{tree}", "--data", f"{own}", "--bind", host]
    env = {"DUALREG_FOLLOW_INTERVAL": "0s", "DUALREG_WORKERS": "2"}
    env |= {f"DUALREG_{name.upper()}": value for name, value in settings.items()}
    with running(command, log, env) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        yield host, process.pid


def command(verb: str, tree: Path, own: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run ``dualreg follow VERB``."""
    line = [DUALREG, "follow", verb, "--follow", tree, "--data", own, *options]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def kill_update(server: int) -> None:
    """Kill the process that updates the catalog."""
    for pid in children(server):
        if b"update" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def pulled(host: str) -> dict[tuple[str, str], str]:
    """Pull all that is listed; what changes while it is pulled is pulled again."""
    failed = None
    for _ in range(5):
        try:
            return pull_everything(Wire(host))
        except NotPulled as error:
            if str(error) == failed:
                raise  # it was listed all the time
            failed = str(error)
    return {}


@pytest.mark.slow
def test_every_tag_can_be_pulled_all_the_time(tmp_path: Path) -> None:
    """While clients push, move and delete, rsync copies, garbage is collected, and updates are killed.

    After the last copy, the follower has what the registry has.
    """
    data, tree, own = tmp_path / "data", tmp_path / "copy", tmp_path / "own"
    settings = {"gc_interval": "2s", "gc_grace": short_or_long("60s", "15s")}
    with dualreg_server(data, workers=2, **settings) as primary, load(primary, clients=2) as history:
        rsync(data, tree)
        with following(tree, own) as (host, pid):
            with history.window():
                end, rounds = time.monotonic() + LONG, 0
                while time.monotonic() < end:
                    rsync(data, tree)
                    pulled(host)
                    if (rounds := rounds + 1) % 5 == 2:
                        kill_update(pid)
            history.rest()  # what is pushed after the last copy is not in it

            def is_complete() -> bool:
                rsync(data, tree)
                return command("update", tree, own).returncode == 0

            assert until(is_complete), command("status", tree, own).stdout
            assert len(pulled(host)) > 3
    require_same(expected_rows(data), expected_rows(own, follow=tree))


@pytest.mark.slow
def test_a_copy_of_another_user(tmp_path: Path) -> None:
    """Is never written to: V1 views are derived beside it. Pushes are refused, in both dialects."""
    require_root()
    require("setpriv", package="util-linux")
    data, tree, own = tmp_path / "data", tmp_path / "copy", tmp_path / "own"
    image = builders.image(builders.layer({"a": b"1"}))
    with dualreg_server(data, workers=1) as primary:
        V2Client(primary).push("team/app", "latest", image)
    rsync(data, tree)
    for each in (tree, *tree.rglob("*")):
        os.chown(each, NOBODY, NOBODY)
        each.chmod(0o555 if each.is_dir() else 0o444)
    user = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # root that may do no more than others
    before = sorted((each, each.stat().st_mtime_ns) for each in tree.rglob("*"))
    with following(tree, own, wrapper=user) as (host, _):
        assert pull_everything(Wire(host)) == {("team/app", "latest"): str(image.digest)}
        for method, path in (
            ("PUT", "/v2/team/app/manifests/x"),
            ("POST", "/v2/team/app/blobs/uploads/"),
            ("DELETE", f"/v2/team/app/manifests/{image.digest}"),
            ("PUT", "/v1/repositories/team/app/"),
            ("DELETE", "/v1/repositories/team/app/tags/latest"),
        ):
            answer = Wire(host).send(method, path, body=b"[]")
            assert answer.status == 405, path
            assert b"it follows another one; push to that" in answer.body
    assert sorted((each, each.stat().st_mtime_ns) for each in tree.rglob("*")) == before
    assert [*(own / "docker").rglob("data")]
