"""``dualreg client-config``: which URL it means, and what it prints where."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dualreg.cli import main


def run(*arguments: str, **settings: str) -> Result:
    """Run the command with settings of the environment."""
    env = {"DUALREG_CONFIG": None, **{f"DUALREG_{name.upper()}": text for name, text in settings.items()}}
    return CliRunner().invoke(main, ["client-config", *arguments], env=env)


def test_one_client_is_printed_as_its_file(tmp_path: Path) -> None:
    """So that it can be redirected; what else has to be done stays on the terminal."""
    done = run("--for", "docker", bind="192.0.2.1:5000", auth="accounts", v1="off", data=str(tmp_path))
    assert json.loads(done.stdout) == {"insecure-registries": ["192.0.2.1:5000"]}
    assert "--insecure-registry 192.0.2.1:5000" in done.stderr
    assert "docker login 192.0.2.1:5000" in done.stderr
    assert "docker before 1.6: the setting v1 is off" in done.stderr


def test_several_are_printed_below_their_paths() -> None:
    """As ``tail`` does."""
    done = run(public_url="https://reg.example:443", upstreams="ghcr/*=https://ghcr.io")
    headings = [line[4:-4] for line in done.stdout.splitlines() if line.startswith("==> ")]
    assert headings == [
        "/etc/docker/daemon.json",
        "/etc/containerd/certs.d/reg.example/hosts.toml",
        "/etc/containerd/certs.d/ghcr.io/hosts.toml",
        "/etc/buildkit/buildkitd.toml",
        "/etc/containers/registries.conf.d/50-dualreg.conf",
    ]
    assert "insecure" not in done.stdout
    assert "/etc/docker/certs.d/reg.example/ca.crt" in done.stderr


def test_a_path_in_the_url() -> None:
    """Containerd can use it; the other clients cannot, and that is said."""
    done = run("--url", "https://proxy.example/images/", upstreams="*=https://registry-1.docker.io")
    (text,) = (
        part for part in done.stdout.split("==> ") if part.startswith("/etc/containerd/certs.d/docker.io/")
    )
    hosts = tomllib.loads(text.partition("\n")[2])
    assert hosts == {
        "server": "https://registry-1.docker.io",
        "host": {
            "https://proxy.example/images/v2": {"capabilities": ["pull", "resolve"], "override_path": True}
        },
    }
    assert "registry-mirrors" not in done.stdout
    for client in (
        "docker: registry-mirrors",
        "docker before 1.6",
        "buildkit: a registry",
        "podman: a registry",
    ):
        assert client in done.stderr


@pytest.mark.parametrize(
    ("arguments", "settings", "code"),
    [
        ((), {"bind": "0.0.0.0:5000"}, 1),
        ((), {"bind": "unix:/run/dualreg"}, 1),
        (("--url", "reg.example"), {}, 1),
        (("--for", "rkt"), {}, 2),
        (("--url", "http://reg.example"), {"bind": "unix:/run/dualreg"}, 0),
    ],
)
def test_what_cannot_be_printed(arguments: tuple[str, ...], settings: dict[str, str], code: int) -> None:
    """A server whose name is not known, and clients that are not."""
    assert run(*arguments, **settings).exit_code == code


def test_files_are_not_overwritten(tmp_path: Path) -> None:
    """What is the same is left, what differs is refused, and then nothing is written."""
    arguments = ("--for", "docker", "--output", str(tmp_path))
    first, again = (run(*arguments, "--url", "http://reg.example") for _ in range(2))
    assert first.exit_code == again.exit_code == 0
    other = run("--output", str(tmp_path), "--url", "http://other.example")
    assert other.exit_code == 1
    assert "daemon.json exists, and differs" in other.stderr
    assert [*tmp_path.glob("etc/*")] == [tmp_path / "etc/docker"]
