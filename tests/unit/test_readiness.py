"""Readiness: what is known of a check that may take long, at each moment."""

from collections.abc import Mapping
from threading import Event, Thread

import pytest

from dualreg.registry import readiness as module
from dualreg.registry.readiness import Readiness
from tests.programs import until

FAILS = {"catalog": "OperationalError"}


class Check:
    """A check that ends when it may, with what it is to find."""

    def __init__(self) -> None:
        """Find nothing wrong, at once."""
        self.found: Mapping[str, str] | Exception = {}
        self.calls, self.may_end = 0, Event()
        self.may_end.set()

    def __call__(self) -> Mapping[str, str]:
        """Be called."""
        self.calls += 1
        assert self.may_end.wait(20)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def checked(readiness: Readiness) -> Mapping[str, str] | None:
    """Wait for a check; return what fails."""
    done = Event()
    readiness.refresh(done.set)
    assert done.wait(20)
    return readiness.failures()


def test_a_first_check_that_does_not_end_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no longer the start."""
    check = Check()
    readiness, done = Readiness(check), Event()
    check.may_end.clear()
    readiness.refresh(done.set)
    assert readiness.failures() is None
    monkeypatch.setattr(module, "_SLOW", 0.0)
    assert readiness.failures() == {"check": "TimeoutError"}
    check.may_end.set()
    assert done.wait(20)


@pytest.mark.parametrize(
    ("found", "expected"), [({}, {}), (FAILS, FAILS), (ValueError(), {"check": "ValueError"})]
)
def test_what_was_found_is_known(found: Mapping[str, str] | Exception, expected: Mapping[str, str]) -> None:
    """Whatever goes wrong in a check; nothing is known before the first one."""
    check = Check()
    check.found, readiness = found, Readiness(check)
    assert readiness.failures() is None
    assert not readiness.is_fresh
    assert checked(readiness) == expected
    assert readiness.is_fresh


def test_one_check_is_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it goes on, the last one counts for a time; then it has failed. All hear of its end."""
    check = Check()
    readiness, heard = Readiness(check, lambda: {"storage": "TimeoutError"}), list[int]()
    assert checked(readiness) == {}
    check.may_end.clear()
    for number in range(5):
        readiness.refresh(lambda number=number: heard.append(number))  # type: ignore[misc]  # a default
    assert until(lambda: check.calls == 2)
    assert readiness.failures() == {}
    monkeypatch.setattr(module, "_OLD", 0.0)
    assert readiness.failures() == {"check": "TimeoutError"}
    monkeypatch.setattr(module, "_SLOW", 0.0)
    assert readiness.failures() == {"storage": "TimeoutError"}
    monkeypatch.undo()
    check.may_end.set()
    assert until(lambda: heard == [*range(5)])
    assert (check.calls, readiness.failures()) == (2, {})


def test_a_check_without_a_thread_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks is told, and the next check is another one."""
    readiness, ended = Readiness(dict), Event()

    def fail(_: Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(Thread, "start", fail)
        readiness.refresh(ended.set)
    assert ended.is_set()
    assert readiness.failures() == {"check": "RuntimeError"}
    assert checked(readiness) == {}
