"""The order of tests for several processes: those that take long begin early.

``pytest-xdist`` gives each process a part of all tests in a row; who has done its own takes over the end of
another's. So each part begins with modules that have slow tests. Otherwise, one process does the last of them
when the others have nothing left to do.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

Item = TypeVar("Item")


def in_turns(
    items: Sequence[Item],
    processes: int,
    module: Callable[[Item], object],
    is_slow: Callable[[Item], bool],
) -> list[Item]:
    """Return *items* in another order; those of a module stay together, except at the end of a part."""
    modules = [[*group] for _, group in groupby(items, module)]
    slow = [group for group in modules if any(map(is_slow, group))]
    quick = [item for group in modules if not any(map(is_slow, group)) for item in group]
    ordered, total = list[Item](), sum(sum(map(is_slow, group)) for group in slow)
    begun = 0
    for part in range(1, processes + 1):
        while slow and begun < total * part / processes:
            begun += sum(map(is_slow, slow[0]))
            ordered += slow.pop(0)
        room = max(0, len(items) * part // processes - len(ordered))
        ordered += quick[:room]
        del quick[:room]
    return ordered + quick
