"""Observed: how long the operations of a store take, without a driver knowing that it is looked at."""

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Any

from dualreg.errors import BlobMissing

#: Called with the operation, how many seconds it took, and whether the store failed.
Observe = Callable[[str, float, bool], None]
#: What is looked at: all that takes a request, or a wait for the disk.
OPERATIONS = (
    "open",
    "stat",
    "look",
    "stage",
    "append",
    "prepare",
    "publish",
    "discard",
    "delete",
    "stage_links",
    "place_links",
    "remove_link",
)


def observe(store: object, seen: Observe) -> None:
    """Have *seen* called after each operation of a store from now on.

    The time of ``append`` leaves out that in which its bytes arrive.
    """
    for name in OPERATIONS:
        if operation := getattr(store, name, None):
            setattr(
                store, name, _append(operation, seen) if name == "append" else _timed(name, operation, seen)
            )


def _timed(name: str, operation: Callable[..., Any], seen: Observe) -> Callable[..., Any]:
    def timed(*args: Any, **options: Any) -> Any:  # noqa: ANN401 -- those of the operation
        began = perf_counter()
        try:
            result = operation(*args, **options)
        except Exception as error:
            seen(name, perf_counter() - began, is_failure(error))
            raise
        seen(name, perf_counter() - began, False)  # noqa: FBT003 -- as the type says
        return result

    return timed


def _append(operation: Callable[..., int], seen: Observe) -> Callable[..., int]:
    def append(upload: object, chunks: Iterable[bytes], *, offset: int) -> int:
        waited = _Waited(chunks)
        timed = _timed(
            "append", operation, lambda name, seconds, bad: seen(name, seconds - waited.seconds, bad)
        )
        length: int = timed(upload, iter(waited), offset=offset)
        return length

    return append


class _Waited:
    """Chunks, and how long they were waited for."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self.seconds = chunks, 0.0

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self._chunks)
        while True:
            began = perf_counter()
            try:
                chunk = next(chunks)
            except StopIteration:
                return
            finally:
                self.seconds += perf_counter() - began
            yield chunk


def is_failure(error: BaseException) -> bool:
    """Return whether the store failed; that it lacks a blob is an answer."""
    return isinstance(error, OSError) and not isinstance(error, BlobMissing)
