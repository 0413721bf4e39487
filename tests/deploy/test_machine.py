"""One process, and nginx before it, run by systemd from the shipped files, by the documented commands."""

import re
import shutil
from collections.abc import Iterator

import pytest

from tests import builders
from tests.clients.tools import Failed
from tests.deploy.machine import CHECKOUT, ROOT, Machine, running_machine
from tests.deploy.manual import commands
from tests.migrations.test_rolling import ADD, HEAD, write_revision
from tests.nginx.site import make_certificate
from tests.programs import require

pytestmark = [pytest.mark.client, pytest.mark.slow]

#: The registry itself, and behind nginx.
HOST_ALONE, HOST = "127.0.0.1:5000", "registry.example.com"
IMAGE = builders.image(builders.layer({"a": b"a" * 70_000}))
LOGIN = "--authfile /srv/auth.json"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine on which the installation page was followed, with an account, and its image to push."""
    require("skopeo", package="skopeo")
    require("nginx", package="nginx")
    with running_machine() as machine:
        machine.run(commands("install.md", "Debian, with systemd"))
        machine.run(commands("install.md", "Timers"))
        machine.run("echo secret123 | dualreg account add alice --password-stdin")
        machine.run("dualreg access grant alice '*' pull,push")
        builders.skopeo_folder(machine.root / "srv/image", IMAGE)
        yield machine


def push(machine: Machine, host: str, name: str) -> None:
    """Push the image as alice."""
    copy = "skopeo --insecure-policy copy --dest-creds alice:secret123"
    machine.run(f"{copy} --dest-tls-verify={str(host == HOST).lower()} dir:/srv/image docker://{host}/{name}")


def pull(machine: Machine, host: str, name: str) -> None:
    """Pull an image as alice; every byte is the one that was pushed."""
    copy = "rm -rf /srv/out; skopeo --insecure-policy copy --src-creds alice:secret123"
    machine.run(f"{copy} --src-tls-verify={str(host == HOST).lower()} docker://{host}/{name} dir:/srv/out")
    pushed, pulled = (
        {path.name: path.read_bytes() for path in (machine.root / "srv" / name).iterdir()}
        for name in ("image", "out")
    )
    assert pulled == pushed


def test_systemd_runs_one_process(machine: Machine) -> None:
    """It is ready when it is started, and owns its data; reloads and jobs succeed, confined as they are."""
    assert 'Status: "Serving on http://127.0.0.1:5000"' in machine.run("systemctl status dualreg")
    push(machine, HOST_ALONE, "team/app:1")
    for unit in ("gc", "fsck", "backup"):
        machine.run(f"systemctl start dualreg-{unit}")
    machine.run("systemctl reload dualreg")
    pull(machine, HOST_ALONE, "team/app:1")
    assert machine.run("find /var/lib/dualreg ! -user dualreg") == ""
    assert machine.run("systemctl list-timers --all").count("dualreg-") == 2 * 3
    with pytest.raises(Failed, match="inactive"):
        machine.run("systemctl stop dualreg; systemctl is-active dualreg")
    machine.run("systemctl start dualreg; dualreg health")


def install_version(machine: Machine, tree: str) -> None:
    """Have the environment of dualreg contain the version in a directory of the machine, as pip would do."""
    command = machine.root / "opt/dualreg/bin/dualreg"
    command.write_text(re.sub("PYTHONPATH=.*", f"PYTHONPATH={tree}", command.read_text()))


def test_upgrade_downgrade_and_restore(machine: Machine) -> None:
    """By the documented commands: a next version with another column, back to this one, and to a backup."""
    push(machine, HOST_ALONE, "team/app:kept")
    newer = machine.root / "srv/newer"
    for name in ("dualreg", "migrations"):
        shutil.copytree(ROOT / name, newer / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    write_revision(newer / "migrations", "9001", HEAD, ADD)
    install_version(machine, "/srv/newer")
    assert "9001" in machine.run(commands("deploy.md", "Upgrade"))
    push(machine, HOST_ALONE, "team/app:newer")
    install_version(machine, f"{CHECKOUT}")
    machine.run("systemctl restart dualreg; dualreg health")
    pull(machine, HOST_ALONE, "team/app:newer")
    machine.run(commands("deploy.md", "Backup"))
    assert "No damage found." in machine.run(commands("deploy.md", "Restore"))
    for tag in ("kept", "newer"):
        pull(machine, HOST_ALONE, f"team/app:{tag}")
    assert machine.run("find /var/lib/dualreg ! -user dualreg") == ""


def test_nginx_in_front(machine: Machine) -> None:
    """TLS by what certbot leaves; nginx sends layers from the folder of the service."""
    lineage = machine.root / "etc/letsencrypt/live" / HOST
    lineage.mkdir(parents=True)
    authority = make_certificate(lineage, HOST)
    (lineage / "fullchain.pem").write_bytes(authority.read_bytes())
    (lineage / "key.pem").rename(lineage / "privkey.pem")
    machine.run(commands("deploy.md", "TLS by ACME"))
    machine.run(commands("deploy.md", "nginx and gunicorn"))
    (machine.root / "etc/containers/certs.d" / HOST).mkdir(parents=True)
    (machine.root / "etc/containers/certs.d" / HOST / "ca.crt").write_bytes(authority.read_bytes())
    machine.run(f"echo 127.0.0.1 {HOST} >> /etc/hosts")
    push(machine, HOST, "team/app:tls")
    pull(machine, HOST, "team/app:tls")
    sent = re.findall(r'"GET /v2/team/app/blobs/.*" 200 (\d+) ', machine.run("journalctl -u dualreg"))
    assert sent[-2:] == ["0", "0"]  # of a config and a layer: nginx sent their bytes


def test_a_follower(machine: Machine) -> None:
    """It serves what rsync has copied, to the accounts of the registry, and takes no push."""
    push(machine, HOST_ALONE, "team/app:followed")
    machine.run("systemctl stop dualreg; echo REGISTRY=/var/lib/dualreg/ > /etc/dualreg/environment")
    assert "Waiting: " not in machine.run(commands("deploy.md", "Followers"))
    pull(machine, HOST_ALONE, "team/app:followed")
    with pytest.raises(Failed, match="read-only"):
        push(machine, HOST_ALONE, "team/app:refused")
    machine.run("systemctl start dualreg-rsync")
    assert machine.run("find /var/lib/dualreg-* ! -user dualreg") == ""
    machine.run("systemctl stop dualreg-follow; systemctl start dualreg")
