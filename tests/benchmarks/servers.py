"""The registries that are compared: ours, alone and behind nginx, the reference registry, and others."""

import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dualreg import __version__
from dualreg.assembly import open_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from tests.auth import conftest
from tests.benchmarks.wire import Connection, Refused
from tests.nginx.site import make_certificate, nginx_site
from tests.programs import dualreg_process, free_port, running, wait_until_up

#: The account that may do everything where there are accounts.
_ACCOUNT, _PASSWORD = "bench", "a-password-of-ordinary-length"
_ACCOUNTS = "dualreg alone, with auth = accounts; clients have tokens"
_NGINX = "dualreg behind the configuration in nginx/, over plain HTTP; nginx sends the blobs"
#: Longer than a run.
_TOKEN_TTL = "12h"
REFERENCE = "docker-registry"


@dataclass(frozen=True, slots=True)
class Server:
    """A registry that runs.

    Attributes:
        host: HOST:PORT.
        root: The folder of its tree, from which measured blobs are taken away again; None elsewhere.
        ours: It is this dualreg.
        accounts: It asks for logins; clients have tokens.
        issuer: The same with accounts, if this one has none.
        about: What it is, in words.
        pids: Its main processes; none of one that runs elsewhere.
    """

    name: str
    host: str
    speaks_v1: bool
    root: Path | None = None
    ours: bool = False
    accounts: bool = False
    issuer: "Server | None" = None
    pids: tuple[int, ...] = ()
    about: str = ""

    def forget(self, repository: str, digest: str) -> None:
        """Remove a blob's bytes from the disk; elsewhere, ask the registry to."""
        if self.root is None:
            with suppress(Refused), Connection(self.host) as connection:
                connection.ask("DELETE", f"/v2/{repository}/blobs/{digest}")
            return
        FilesystemStore(self.root).path(Digest.parse(digest)).unlink(missing_ok=True)

    def login(self, repository: str) -> dict[str, str]:
        """Return the header of a token to pull from and push to a repository; none without accounts."""
        return self.bearer(f"repository:{repository}:pull,push")

    def bearer(self, scope: str) -> dict[str, str]:
        """Return the header of a token that covers *scope*; none without accounts."""
        return conftest.bearer(_token(self.host, scope)) if self.accounts else {}

    def basic(self) -> dict[str, str]:
        """Return the header of a password; none without accounts."""
        return basic() if self.accounts else {}


def basic() -> dict[str, str]:
    """Return the header of the account's password."""
    return conftest.basic(_ACCOUNT, _PASSWORD)


@cache
def _token(host: str, scope: str) -> str:
    with Connection(host, basic()) as connection:
        answer = connection.ask("GET", f"/token?service=dualreg&scope={scope}")
    token: str = json.loads(answer.body)["token"]
    return token


@contextmanager
def servers(
    folder: Path, against: Mapping[str, str], *, fresh: bool, auth: bool = False
) -> Iterator[list[Server]]:
    """Run all that are installed, in the order of the table's columns.

    Args:
        against: HOST:PORT of others that run already, by name.
        auth: Also one with accounts.
        fresh: Start ours as an operator does; otherwise in haste, see ``tests.programs.start``.
    """
    with ExitStack() as stack:
        guarded = stack.enter_context(dualreg(folder, "accounts", accounts=True, fresh=fresh))
        found = [stack.enter_context(dualreg(folder, "dualreg", issuer=guarded, fresh=fresh))]
        if has_nginx():
            found.append(stack.enter_context(behind_nginx(folder, fresh=fresh)))
        if auth:
            found.append(guarded)
        if shutil.which("docker-registry"):
            found.append(stack.enter_context(reference(folder, folder / "reference")))
        yield [*found, *others(against)]


def others(against: Mapping[str, str]) -> list[Server]:
    """Return the registries that run already, by name at HOST:PORT."""
    return [Server(name, host, _speaks_v1(host)) for name, host in against.items()]


def settings(*, accounts: bool) -> dict[str, str]:
    """Return how dualreg is measured: with the settings that it has by default, but no access log."""
    return {"access_log": "false"} | ({"auth": "accounts", "token_ttl": _TOKEN_TTL} if accounts else {})


@contextmanager
def dualreg(
    folder: Path, name: str, *, fresh: bool, accounts: bool = False, issuer: Server | None = None
) -> Iterator[Server]:
    """Run dualreg alone."""
    data = folder / name
    with dualreg_process(data, fresh=fresh, **settings(accounts=accounts)) as serving:
        if accounts:
            _add_account(data)
        yield Server(
            name,
            serving.host,
            speaks_v1=True,
            root=data,
            ours=True,
            accounts=accounts,
            issuer=issuer,
            pids=(serving.process.pid,),
            about=_ACCOUNTS if accounts else "dualreg alone, its defaults but no access log",
        )


def _add_account(data: Path) -> None:
    registry = open_registry(Settings(data=data))
    accounts = Accounts(registry.state.catalog, Passwords())
    accounts.add(_ACCOUNT, _PASSWORD)
    accounts.grant(_ACCOUNT, "*", "pull,push,delete")
    registry.close()


@contextmanager
def behind_nginx(folder: Path, *, fresh: bool) -> Iterator[Server]:
    """Run dualreg behind the files in nginx/, over plain HTTP like the others; nginx sends the blobs."""
    prefix = folder / "nginx"
    prefix.mkdir()
    certificate = make_certificate(prefix)
    data = folder / "behind-nginx"
    chosen = settings(accounts=False)
    with (
        dualreg_process(data, fresh=fresh, x_accel_prefix="/_blobs", **chosen) as serving,
        nginx_site("dualreg.conf", prefix / "etc", certificate, serving.host, data, log=False) as site,
    ):
        pids = (site.pid, serving.process.pid)
        yield Server("nginx", site.plain, speaks_v1=True, root=data, ours=True, pids=pids, about=_NGINX)


@contextmanager
def reference(folder: Path, root: Path | None = None, **storage: Any) -> Iterator[Server]:
    """Run the reference registry with its fast settings: blob descriptors in memory, no access log.

    Args:
        root: The folder of its tree; None if *storage* is none.
        storage: The section of its configuration about what it stores in; default: the folder *root*.
    """
    host = f"127.0.0.1:{free_port()}"
    config, log = folder / "reference.yml", folder / "reference.log"
    chosen = storage or {"filesystem": {"rootdirectory": str(root)}}
    document = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {**chosen, "cache": {"blobdescriptor": "inmemory"}, "delete": {"enabled": True}},
        "http": {"addr": host},
    }
    config.write_text(json.dumps(document), encoding="utf-8")
    with running(["docker-registry", "serve", config], log) as process:
        wait_until_up(f"http://{host}/v2/", process, log)
        about = "the reference registry, with its fast settings"
        yield Server(REFERENCE, host, speaks_v1=False, root=root, pids=(process.pid,), about=about)


def has_nginx() -> bool:
    """Return whether what it takes to run dualreg behind nginx is installed."""
    return all(map(shutil.which, ("nginx", "openssl")))


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    found = {
        "dualreg": __version__,
        "python": platform.python_version(),
        "gunicorn": version("gunicorn"),
        "kernel": platform.release(),
    }
    if has_nginx():
        found["nginx"] = _said("nginx", "-v").split("/")[-1].strip()
    if shutil.which("docker-registry"):
        found[REFERENCE] = _said("docker-registry", "--version").split()[-1]
    return found


def _speaks_v1(host: str) -> bool:
    with Connection(host) as connection:
        return connection.ask("GET", "/v1/_ping", allowed=404).status == 200


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr
