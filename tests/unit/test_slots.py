"""Slots: how many uploads and downloads an address may have at once, beside others."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from dualreg.errors import ServerBusy
from dualreg.web.slots import Slots


def greedy(slots: Slots, address: str) -> list[Callable[[], None]]:
    """Take all slots that an address gets."""
    taken: list[Callable[[], None]] = []
    with suppress(ServerBusy):
        while True:
            taken.append(slots.take(address))
    return taken


@pytest.mark.parametrize(
    ("threads", "first", "others"),
    [(1, 1, [0]), (2, 1, [0]), (4, 2, [1, 0]), (8, 5, [1, 0]), (16, 9, [2, 1, 0])],
)
def test_an_address_leaves_some_to_others(threads: int, first: int, others: list[int]) -> None:
    """The first that comes gets most of them, each other fewer, and nobody two when another has none."""
    slots = Slots(threads)
    held = greedy(slots, "192.0.2.1")
    assert len(held) == first
    later = [greedy(slots, f"198.51.100.{number}") for number in range(len(others))]
    assert [len(each) for each in later] == others
    held.pop()()  # the greedy one cannot take it again, unless it is the only one
    assert len(greedy(slots, "192.0.2.1")) == (1 if others == [0] else 0)
    assert len(greedy(slots, "203.0.113.1")) == 1


def test_what_is_given_back_is_free_again() -> None:
    """Once, by a call or with the last reference."""
    slots = Slots(16)
    for _ in range(3):
        held = greedy(slots, "192.0.2.1")
        assert len(held) == 9
        held[0]()
        held[0]()
        held.clear()


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [("2001:db8::1", "2001:db8::2", 0), ("2001:db8::1", "2001:db8:0:1::1", 2), ("", "", 0)],
    ids=["of one network", "of two networks", "unknown"],
)
def test_addresses_are_networks(one: str, other: str, count: int) -> None:
    """A /64 counts as one address; where none is known, all slots are for all."""
    slots = Slots(16)
    held = greedy(slots, one)
    assert len(held) == (9 if one else 12)
    assert len(greedy(slots, other)) == count
