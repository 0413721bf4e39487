"""Tests that take long begin early, and none is lost."""

import pytest

from tests.turns import in_turns

#: Modules, and of each the tests; those in capitals are slow.
MODULES = ("aAa", "bb", "CC", "d", "eee", "ffF", "g", "hhhh", "I", "jj", "K", "ll")


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 30])
def test_each_part_begins_with_slow_modules(processes: int) -> None:
    """Modules stay whole, and in their order; each process has about as many slow tests as the others."""
    given = [letter for module in MODULES for letter in module]
    ordered = in_turns(given, processes, str.lower, str.isupper)
    assert sorted(ordered) == sorted(given)
    assert [each for each in ordered if each.lower() in "acfik"] == [*"aAaCCffFIK"]
    parts = [
        ordered[len(given) * part // processes : len(given) * (part + 1) // processes]
        for part in range(processes)
    ]
    if processes <= 3:
        assert all(part[0].lower() in "acfik" for part in parts)


def test_without_slow_tests_the_order_stays() -> None:
    """As in a run without them."""
    assert in_turns("aabbc", 2, str.lower, str.isupper) == [*"aabbc"]
