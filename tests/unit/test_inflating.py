"""Slots of work that takes a processor: how many threads work, and how many wait."""

import time
from threading import Event, Thread

import pytest

from dualreg.errors import ServerBusy
from dualreg.registry.inflating import InflatingSlots


def test_few_threads_wait_for_a_slot() -> None:
    """Two work and four wait, however many come; what is given back is free again."""
    slots, go_on, done, refused = InflatingSlots(), Event(), list[int](), list[int]()

    def work(number: int) -> None:
        try:
            with slots.slot():
                done.append(number)
                assert go_on.wait(20)
        except ServerBusy:
            refused.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while (len(done), len(refused)) != (2, 6):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert (len(done), len(refused)) == (6, 6)
    with slots.slot(), slots.slot(), pytest.raises(ServerBusy), slots.slot(patience=0.01):
        pytest.fail("there are two")
