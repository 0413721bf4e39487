"""Syncs that the kernel makes at the same time: all of them, whatever fails, and in every process."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dualreg.storage import parallel


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Callable[[int], list[int]]]:
    """Returns descriptors of so many new files."""
    with ExitStack() as stack:

        def create(count: int) -> list[int]:
            made = [os.open(tmp_path / f"{number}", os.O_CREAT | os.O_WRONLY) for number in range(count)]
            for descriptor in made:
                stack.callback(os.close, descriptor)
            return made

        yield create


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many syncs the kernel was asked for by each call, from now on."""
    counts, real = list[int](), parallel._call

    def call(name: str, *arguments: int) -> int:
        result = real(name, *arguments)
        if name == "submit":
            counts.append(result)
        return result

    monkeypatch.setattr(parallel, "_call", call)
    return counts


@pytest.fixture
def single(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that are synced alone from now on."""
    synced, real = list[int](), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    return synced


@pytest.mark.parametrize("count", [0, 1, 2, 32, 40])
def test_all_are_synced(
    files: Callable[[int], list[int]], queued: list[int], single: list[int], count: int
) -> None:
    """One alone, several by the kernel, and what it does not take after that."""
    descriptors = files(count)
    parallel.sync(*descriptors)
    taken = min(count, 32) if count > 1 else 0
    assert queued == [taken] * (count > 1)
    assert single == descriptors[taken:]


@pytest.mark.parametrize("lacking", ["setup", "submit", ""])
def test_without_the_interface(
    monkeypatch: pytest.MonkeyPatch, files: Callable[[int], list[int]], single: list[int], lacking: str
) -> None:
    """An unknown machine, a sandbox, or a limit that is reached: they are synced one after the other."""
    real = parallel._call
    monkeypatch.setattr(parallel, "_idle", {})
    if lacking:
        monkeypatch.setattr(
            parallel, "_call", lambda name, *rest: -1 if name == lacking else real(name, *rest)
        )
    else:
        monkeypatch.setattr(parallel, "_numbers", lambda: None)
    descriptors = files(3)
    parallel.sync(*descriptors)
    assert single == descriptors


@pytest.mark.parametrize("place", range(3))
def test_what_the_kernel_does_not_take(
    files: Callable[[int], list[int]], queued: list[int], single: list[int], place: int
) -> None:
    """It is left to fsync, which says why, as are those after it; the next ones are synced."""
    descriptors, pipe = files(2), os.pipe()
    try:
        descriptors.insert(place, pipe[1])
        parallel.sync(*descriptors)
    finally:
        for descriptor in pipe:
            os.close(descriptor)
    assert single == descriptors[place:]
    parallel.sync(*files(4))
    assert queued == [place or -1, 4]


def test_a_disk_that_fails(
    monkeypatch: pytest.MonkeyPatch, files: Callable[[int], list[int]], queued: list[int]
) -> None:
    """The error is that of the sync; the others are waited for, also if a signal interrupts that."""
    real, interrupted = parallel._Queue._wait, iter([True, False])

    def fail(queue: parallel._Queue) -> list[parallel._Event]:
        if next(interrupted, False):
            return []
        events = [*real(queue)]
        events[1].result = -errno.EIO
        return events

    with monkeypatch.context() as patch:
        patch.setattr(parallel._Queue, "_wait", fail)
        with pytest.raises(OSError, match="Input/output error"):
            parallel.sync(*files(3))
    parallel.sync(*files(2))
    assert queued == [3, 2]


def test_a_queue_that_was_interrupted_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, files: Callable[[int], list[int]]
) -> None:
    """It would take the ends of earlier syncs for those of its own."""
    monkeypatch.setattr(parallel, "_idle", {})

    def interrupt(_: parallel._Queue) -> list[parallel._Event]:
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel._Queue, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        parallel.sync(*files(3))
    assert parallel._idle[os.getpid()] == []


def test_another_thread_takes_the_last_queue(
    monkeypatch: pytest.MonkeyPatch, files: Callable[[int], list[int]], queued: list[int]
) -> None:
    """Between a look and the use of what was found, where threads run at the same time."""

    class Taken(list[parallel._Queue]):
        def __bool__(self) -> bool:
            return True

    monkeypatch.setattr(parallel, "_idle", {os.getpid(): Taken()})
    parallel.sync(*files(2))
    assert queued == [2]


def test_a_process_has_its_own(files: Callable[[int], list[int]]) -> None:
    """The kernel does not know those of the parent process."""
    descriptors = files(3)
    parallel.sync(*descriptors)
    assert parallel._idle[os.getpid()]
    child = os.fork()
    if child == 0:
        parallel.sync(*descriptors)
        os._exit(len(parallel._idle[os.getpid()]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
