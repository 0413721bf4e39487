"""What is here is not kept waiting by an upstream that hangs; one that answers in a moment is believed."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Thread

import pytest

from dualreg.errors import UpstreamBusy
from dualreg.upstreams import breaker, checked, checks
from dualreg.upstreams.checks import Checks, Unanswered
from tests.migrate.fronts import Front, status
from tests.programs import until
from tests.upstreams.world import IMAGE, OTHER, Here, There, here

STALE = '110 - "Response is Stale: the upstream registry'


@pytest.fixture
def hub(between: Front, tmp_path: Path) -> Iterator[Here]:
    """A registry that serves the other as ``hub/*``, and looks at every request whether tags have changed."""
    with here(tmp_path / "data", between.url, check_interval="0s") as opened:
        yield opened


@contextmanager
def hanging(between: Front, then: int | None) -> Iterator[None]:
    """Have the upstream hang for the block, after which it fails or passes what it was asked."""
    go_on = Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        assert go_on.wait(60)
        (between._pass if then is None else status(then))(handler)

    between.answer = lambda _path, _said: hang
    try:
        yield
    finally:
        between.answer = lambda _path, _said: then
        go_on.set()


def warm(hub: Here, there: There, name: str) -> dict[str, Callable[[], str | None]]:
    """Have an image here that has moved there; return what asks for it, and returns the warning."""
    there.put(name, IMAGE, "1")
    hub.pull(f"hub/{name}", IMAGE, "1")
    assert hub.get(f"hub/{name}/tags/list").status_code == 200
    assert hub.client.get(f"/v1/repositories/hub/{name}/tags/1").status_code == 200
    there.put(name, OTHER, "1")
    hub.again()  # it remembers no list
    paths = (f"/v2/hub/{name}/manifests/1", f"/v2/hub/{name}/tags/list", f"/v1/repositories/hub/{name}/tags")

    def warning(path: str) -> str | None:
        response = hub.client.get(path, headers={"Accept": IMAGE.media_type})
        assert response.status_code == 200
        return response.headers.get("Warning")

    return {path: lambda path=path: warning(path) for path in paths}  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.parametrize("then", [None, 500])
def test_what_is_here_waits_for_a_moment(
    hub: Here, between: Front, there: There, monkeypatch: pytest.MonkeyPatch, then: int | None
) -> None:
    """It says that it may be old. What the upstream answers in the end is for the requests that follow."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(checked, "BRIEFLY", 0.3)
    monkeypatch.setattr(checked, "_RETRY", checked._RETRY / 100)
    asking = warm(hub, there, f"team/hangs{then or 0}")
    manifest = next(iter(asking))
    with hanging(between, then):
        assert "it has not answered yet (504)" in (asking[manifest]() or "")
        for _ in range(3):
            for path, ask in asking.items():
                assert (ask() or "").startswith(STALE), path

    def is_settled() -> bool:
        warning = asking[manifest]()
        return warning is None if then is None else "(500)" in (warning or "")

    assert until(is_settled)
    expected = OTHER if then is None else IMAGE
    assert hub.client.get(manifest, headers={"Accept": IMAGE.media_type}).data == expected.manifest


@pytest.mark.slow
def test_one_that_is_slow_is_believed(hub: Here, between: Front, there: There) -> None:
    """If it answers before the moment is over."""
    asking = warm(hub, there, "team/slow")
    between.delay = 0.1
    assert [ask() for ask in asking.values()] == [None] * len(asking)
    assert hub.get("hub/team/slow/manifests/1").data == OTHER.manifest


class Asked:
    """Checks that end when they are let go on."""

    def __init__(self) -> None:
        """Begin with none."""
        self.checks, self.go_on, self.keys = Checks(), Event(), list[str]()

    def wait(self, key: str, seconds: float) -> str:
        """Ask, and wait for so long; a check is slow after 20 seconds."""
        until = self.checks.clock() + seconds
        return self.checks.wait(key, lambda: self._ask(key), 20.0, until)

    def _ask(self, key: str) -> str:
        self.keys.append(key)
        assert self.go_on.wait(60)
        return key


def test_checks_are_shared_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one for all who ask the same, and too many are refused."""
    monkeypatch.setattr(checks, "_AT_ONCE", 2)
    asked = Asked()
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(asked.wait, "a", 60) for _ in range(3)]
        assert until(lambda: asked.keys == ["a"])
        with pytest.raises(Unanswered):
            asked.wait("b", 0.05)
        with pytest.raises(UpstreamBusy):
            asked.wait("c", 60)
        asked.go_on.set()
        assert [each.result(60) for each in found] == ["a"] * 3
    assert until(lambda: not asked.checks._running)
    assert asked.wait("b", 60) == "b"


def test_nobody_waits_beside_a_check_that_is_slow() -> None:
    """Neither for it, nor for another one of the same upstream, which begins all the same."""
    asked = Asked()
    with pytest.raises(Unanswered):
        asked.wait("a", 0.05)
    asked.checks.clock = lambda: time.monotonic() + 21
    began = time.monotonic()
    for key in ("a", "b"):
        with pytest.raises(Unanswered):
            asked.wait(key, 60)
    assert time.monotonic() - began < 30
    assert until(lambda: asked.keys == ["a", "b"])
    asked.go_on.set()
    assert until(lambda: not asked.checks._running)


def test_errors_of_checks_are_raised() -> None:
    """Also those that look as if the time were over."""
    own = Checks()
    with pytest.raises(ZeroDivisionError):
        own.wait("d", lambda: 1 // 0, 20.0, own.clock() + 60)
    with pytest.raises(TimeoutError, match="theirs"):
        own.wait("e", _time_out, 20.0, own.clock() + 60)


def test_checks_without_a_thread_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the system has no thread left, the request is refused, and the next one asks again."""
    own = Checks()

    def fail(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", fail)
        with pytest.raises(UpstreamBusy):
            own.wait("f", lambda: 1, 20.0, own.clock() + 60)
    assert own.wait("f", lambda: 2, 20.0, own.clock() + 60) == 2


def _time_out() -> None:
    raise TimeoutError("theirs")
