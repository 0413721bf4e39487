"""What any release of Docker before V2 pushed, every other and today's clients pull; and the other way."""

from collections.abc import Callable

import pytest

from tests.protocol.conftest import Served
from tests.protocol.everyone import (
    TODAY_PULLERS,
    TODAY_PUSHERS,
    V1_PULLERS,
    V1_PUSHERS,
    assert_same,
    pushing_once,
)
from tests.protocol.layers import OLD_LAYERS

PUSHERS = V1_PUSHERS | TODAY_PUSHERS
PULLERS = V1_PULLERS | TODAY_PULLERS


@pytest.fixture(scope="module")
def pushed(served: Served) -> Callable[[str], str]:
    """Give the repository that a pusher has pushed to."""
    return pushing_once(served.host, PUSHERS)


@pytest.mark.parametrize("puller", PULLERS)
@pytest.mark.parametrize("pusher", PUSHERS)
def test_every_release_pulls_what_any_release_pushed(
    served: Served, pushed: Callable[[str], str], pusher: str, puller: str
) -> None:
    """Same files in the same layers, as the bytes they were; only V2 may do without a blank V1 layer."""
    layers = PULLERS[puller](served.host, pushed(pusher), "latest")
    exactly = (pusher in V1_PUSHERS) == (puller in V1_PULLERS)
    assert_same(layers, OLD_LAYERS, exactly=exactly)
