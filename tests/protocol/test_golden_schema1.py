"""What real daemons with schema 1 sent, word for word, gets the answers that they need."""

import pytest

from tests.protocol.conftest import Served
from tests.protocol.replay import replay_schema1


@pytest.mark.parametrize("version", ["1.6.2", "1.9.1"])
def test_a_recorded_push_and_pull(served: Served, version: str) -> None:
    """Every request of the recording, every status, header and body of the answers that the daemon reads."""
    assert replay_schema1(version, served.host) == 10
