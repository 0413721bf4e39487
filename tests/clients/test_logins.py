"""Real clients against a registry that wants to know who asks; and what all of that leaves in its logs."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dualreg.assembly import open_registry
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.settings import Settings
from tests import builders
from tests.clients.tools import Failed, Tools
from tests.programs import dualreg_process, require
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.wire import ProtocolError, Wire

pytestmark = pytest.mark.client

PASSWORDS = {"alice": "hush-alice-7f31", "bob": "hush-bob-91c2"}
WRONG = "hush-wrong-5d0a"
#: What clients print.
REFUSED = r"(?i)denied|unauthorized|authentication required|no basic auth|invalid username/password"


@dataclass
class Guarded:
    """A running registry with accounts, and what must never be in a log.

    Attributes:
        secrets: Everything that clients were given or sent to prove who they are.
    """

    host: str
    logs: list[Path]
    key: str
    secrets: set[str]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Alice may push to ``team``, bob may only pull there, everybody pulls what is public; ci has a key."""
    data = tmp_path_factory.mktemp("guarded") / "data"
    with dualreg_process(data, auth="accounts", workers=2) as (host, _, log):
        registry = open_registry(Settings(data=data))
        accounts = Accounts(registry.state.catalog, Passwords(rounds=5))
        for name, password in PASSWORDS.items():
            accounts.add(name, password)
        accounts.add("ci", None)
        key = accounts.add_key("ci", limits="", note="", lifetime=None).text
        accounts.grant("alice", "*", "pull,push,delete")
        accounts.grant("bob", "team/*", "pull")
        accounts.grant("ci", "team/*", "pull,push")
        accounts.grant("anonymous", "public/*", "pull")
        registry.close()
        own = Guarded(host, [log, data / "audit.jsonl"], key, {*PASSWORDS.values(), WRONG, key})
        yield own
        check_logs(own)


def check_logs(guarded: Guarded) -> None:
    """Look for every secret in every log, also encoded as Basic has it; the logs did see what happened."""
    texts = {path: path.read_text(errors="replace") for path in guarded.logs}
    assert all("team/app" in text for text in texts.values())
    for secret in guarded.secrets:
        for account in ("", "alice:", "bob:", "ci:"):
            encoded = base64.b64encode(f"{account}{secret}".encode()).decode().rstrip("=")
            for path, text in texts.items():
                assert secret not in text, path
                assert encoded not in text, path
    assert not [path for path, text in texts.items() if "eyJ" in text or "drk_" in text or "drr_" in text]


@pytest.fixture
def home(guarded: Guarded) -> Iterator[Tools]:
    """The clients, logged in nowhere."""
    with TemporaryDirectory(prefix="dualreg-") as folder:
        yield Tools(Path(folder), guarded.host)


def log_in(home: Tools, program: str, host: str, account: str, password: str) -> str:
    """Log in by *program*."""
    insecure = [] if program == "docker" else ["--tls-verify=false"]
    return home.run(program, "login", *insecure, "-u", account, "-p", password, host)


@pytest.mark.slow
@pytest.mark.parametrize("program", ["skopeo", "podman", "buildah"])
def test_login(guarded: Guarded, home: Tools, program: str) -> None:
    """Good credentials are taken, wrong ones and unknown accounts are not."""
    require(program, package=program)
    assert "Login Succeeded" in log_in(home, program, guarded.host, "alice", PASSWORDS["alice"])
    for account, password in (("alice", WRONG), ("nobody", WRONG), ("bob", PASSWORDS["alice"])):
        with pytest.raises(Failed, match=REFUSED):
            log_in(home, program, guarded.host, account, password)


@pytest.mark.slow
@pytest.mark.parametrize("account", ["alice", "ci", "bob", None])
def test_skopeo_pushes_and_pulls_what_its_account_may(
    guarded: Guarded, home: Tools, layout: Path, account: str | None
) -> None:
    """A key is as good as a password; who may not push is told so; nobody pulls what is not public."""
    passwords = PASSWORDS | {"ci": guarded.key}
    source, target = f"oci:{layout}:base", f"team/app:{account}"
    alice = ["--dest-creds", f"alice:{PASSWORDS['alice']}"]
    home.push(*alice, source, name="team/app:1")
    home.push(*alice, source, name="public/x:1")
    if account:
        log_in(home, "skopeo", guarded.host, account, passwords[account])
    if account in ("alice", "ci"):
        home.push(source, name=target)
    else:
        with pytest.raises(Failed, match=REFUSED):
            home.push(source, name=target)
    if account:
        assert home.pull("team/app:1", f"dir:{home.home}/out") is not None
    else:
        with pytest.raises(Failed, match=REFUSED):
            home.pull("team/app:1", f"dir:{home.home}/out")
    assert home.pull("public/x:1", f"dir:{home.home}/public") is not None
    tags = home.skopeo("list-tags", "--tls-verify=false", f"docker://{guarded.host}/public/x")
    assert json.loads(tags)["Tags"] == ["1"]


@pytest.mark.slow
def test_podman_and_buildah(guarded: Guarded, home: Tools, layout: Path) -> None:
    """Push as one, pull as another, refused as nobody."""
    require("podman", package="podman")
    require("buildah", package="buildah")
    log_in(home, "podman", guarded.host, "alice", PASSWORDS["alice"])
    name = f"{guarded.host}/team/app:podman"
    home.podman("pull", f"oci:{layout}:base")
    image = home.podman("images", "-q").splitlines()[0]
    home.podman("push", "--tls-verify=false", image, name)
    home.podman("logout", guarded.host)
    with pytest.raises(Failed, match=REFUSED):
        home.buildah("pull", "--tls-verify=false", name, store="other")
    log_in(home, "buildah", guarded.host, "bob", PASSWORDS["bob"])
    home.buildah("pull", "--tls-verify=false", name, store="other")
    with pytest.raises(Failed, match=REFUSED):
        home.buildah(
            "push", "--tls-verify=false", name, f"docker://{guarded.host}/team/app:bob", store="other"
        )


@pytest.mark.slow
def test_docker(
    guarded: Guarded, home: Tools, docker: Tools, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker's own client and daemon: login, push, pull, logout, and a refusal."""
    monkeypatch.setattr(docker, "env", {**docker.env, "HOME": str(home.home)})  # for a login of its own
    log_in(docker, "docker", guarded.host, "alice", PASSWORDS["alice"])
    kept = json.loads((home.home / ".docker" / "config.json").read_text())["auths"][guarded.host]
    if "identitytoken" in kept:
        guarded.secrets.add(kept["identitytoken"])
    name = f"{guarded.host}/team/app:docker"
    home.skopeo("copy", f"oci:{layout}:base", f"docker-archive:{home.home}/image.tar:{name}")
    docker.docker("load", "-i", str(home.home / "image.tar"))
    docker.docker("push", name)
    docker.docker("rmi", name)
    docker.docker("logout", guarded.host)
    with pytest.raises(Failed, match=REFUSED):
        docker.docker("pull", name)
    log_in(docker, "docker", guarded.host, "bob", PASSWORDS["bob"])
    docker.docker("pull", name)
    with pytest.raises(Failed, match=REFUSED):
        docker.docker("push", name)
    docker.docker("rmi", name)
    with pytest.raises(Failed, match=REFUSED):
        log_in(docker, "docker", guarded.host, "bob", WRONG)


def test_dockers_credential_flow_by_hand(guarded: Guarded) -> None:
    """Ask, be challenged, log in for what lasts, and use that: as Docker with a credential store."""
    wire = Wire(guarded.host)
    asked = wire.send("GET", "/v2/")
    assert (
        asked.headers["www-authenticate"] == f'Bearer realm="http://{guarded.host}/token",service="dualreg"'
    )
    login = base64.b64encode(f"alice:{PASSWORDS['alice']}".encode()).decode()
    got = wire.send(
        "GET", "/token?account=alice&client_id=docker&offline_token=true&service=dualreg",
        {"Authorization": f"Basic {login}"},
    )  # fmt: skip
    refresh = json.loads(got.body)["refresh_token"]
    body = f"grant_type=refresh_token&service=dualreg&client_id=docker&refresh_token={refresh}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    scope = "&scope=repository%3Ateam%2Fapp%3Apull%2Cpush"
    token = json.loads(wire.send("POST", "/token", form, (body + scope).encode()).body)["access_token"]
    guarded.secrets |= {refresh, token}
    bearer = {"Authorization": f"Bearer {token}"}
    assert wire.send("POST", "/v2/team/app/blobs/uploads/", bearer).status == 202
    assert wire.send("GET", f"/v2/team/app/tags/list?token={'x' * 9}", bearer).status in (200, 404)


@pytest.mark.slow
def test_old_docker(guarded: Guarded) -> None:
    """Docker 1.5's requests: log in, push, pull with less, and what each may not."""
    chain = builders.v1_chain(builders.layer({"a": b"1"}))
    clients = {name: V1Client(guarded.host, user=name, password=PASSWORDS[name]) for name in PASSWORDS}
    for client in clients.values():
        client.login()
    clients["alice"].push("team/app", "old", chain)
    assert clients["bob"].pull("team/app", "old")[0].layer == chain[0].layer
    for client in (
        clients["bob"],
        V1Client(guarded.host),
        V1Client(guarded.host, user="alice", password=WRONG),
    ):
        with pytest.raises(ProtocolError, match=r"401|403"):
            client.push("team/app", "mine", chain)
    with pytest.raises(ProtocolError, match="401"):
        V1Client(guarded.host).pull("team/app", "old")
    with pytest.raises(ProtocolError, match="401"):
        V1Client(guarded.host, user="bob", password=WRONG).login()
