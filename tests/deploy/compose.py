"""Docker Compose, on the images of podman."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.clients.tools import Failed, Tools
from tests.programs import DUALREG, require_own, running, wait_for

_FILES = Path(__file__).parents[2] / "deploy/compose"
#: Networks with names, whose containers find each other by these.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "{home}/networks"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""


@dataclass(frozen=True)
class Compose:
    """Runs ``docker compose`` with the variables *env*."""

    tools: Tools
    env: dict[str, str]

    def __call__(self, *arguments: str) -> str:
        """Run it with *arguments*; return what it wrote to its standard output."""
        names = [f"{name}={value}" for name, value in self.env.items()]
        return self.tools.run("env", *names, DUALREG.with_name("docker-compose"), *arguments)


def free_network() -> str:
    """Return a network of 256 addresses for containers, not one that an interrupted run has left behind."""
    return next(f"172.31.{third}.0/24" for third in range(250) if not _has_address(f"172.31.{third}.1"))


def _has_address(address: str) -> bool:
    """Return whether an interface of this machine has *address*."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind((address, 0))
        return True
    return False


@contextmanager
def compose(tools: Tools, *names: str, **env: str) -> Iterator[Compose]:
    """Start the shipped files *names* for the block, until all services are healthy."""
    require_own("docker-compose")
    home = tools.home / "compose"
    home.mkdir(exist_ok=True)
    (home / "containers.conf").write_text(_CONTAINERS_CONF.format(home=home))
    listening, log = home / "podman.sock", home / "log"
    command = ["podman", *tools.storage("store"), "--cgroup-manager=cgroupfs", "system", "service", "-t", "0"]
    variables = {**tools.env, "CONTAINERS_CONF": f"{home}/containers.conf"}
    with running([*command, f"unix://{listening}"], log, variables) as process:
        wait_for(listening.exists, process, log)
        run = Compose(tools, {**env, "DOCKER_HOST": f"unix://{listening}"})
        files = [f"--file={_FILES / name}" for name in names]
        try:
            with _health_checks(tools):
                run(*files, "up", "--detach", "--no-build", "--pull=never", "--wait")
            yield run
        except Failed as failed:
            raise Failed(f"{failed}\n{run(*files, 'logs')}") from failed
        finally:
            run(*files, "down", "--volumes", "--timeout=40")


@contextmanager
def _health_checks(tools: Tools) -> Iterator[None]:
    """Run the checks of containers that are not healthy yet; elsewhere, podman has timers of systemd."""
    ended = threading.Event()

    def check() -> None:
        while not ended.wait(2):
            for container in tools.podman("ps", "--quiet", "--filter=health=starting").split():
                with suppress(Failed):
                    tools.podman("healthcheck", "run", container)

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
