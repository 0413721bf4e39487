"""Names of processes: whether one has ended is known on the same machine, and never guessed."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from dualreg.registry.processes import has_ended, own_name
from tests.programs import until


def test_this_process_has_not_ended() -> None:
    """Its name has four parts: boot, namespace, number and start."""
    assert not has_ended(own_name())
    assert own_name().split()[2] == str(os.getpid())


@pytest.mark.parametrize("name", ["", "x", "boot 1 2", "boot 1 999999999 4"])
def test_unknown_processes_have_not_ended(name: str) -> None:
    """Those of another machine, of another boot, or without a name may still be running."""
    assert not has_ended(name)


def test_another_container_is_not_looked_into() -> None:
    """The same number in another PID namespace is another process."""
    boot, namespace, number, started = own_name().split()
    assert not has_ended(f"{boot} {int(namespace) + 1} {number} {int(started) + 1}")


def test_a_number_is_used_again() -> None:
    """A process with the number of another, which started at another time, is not that one."""
    boot, namespace, number, started = own_name().split()
    assert has_ended(f"{boot} {namespace} {number} {int(started) - 1}")


def test_a_stopped_process_has_not_ended() -> None:
    """It may go on; once it is killed it has ended, whether or not its parent has waited for it."""
    boot, namespace, _, _ = own_name().split()
    with subprocess.Popen(["sleep", "60"]) as other:
        started = Path(f"/proc/{other.pid}/stat").read_text().split()[21]
        name = f"{boot} {namespace} {other.pid} {started}"
        other.send_signal(signal.SIGSTOP)
        assert not has_ended(name)
        other.kill()
        assert until(lambda: has_ended(name))
    assert has_ended(name)
