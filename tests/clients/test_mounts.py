"""Pushes across repositories, with and without rights on the source, and tokens of another token server."""

import base64
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dualreg.image.jws import key_id
from tests.clients.tools import Tools
from tests.programs import Serving, dualreg_process, until

pytestmark = pytest.mark.client

KEY = ec.generate_private_key(ec.SECP256R1())


def may_use(account: str, repository: str) -> bool:
    """Return whether the account has rights on the repository: each on its own, and friends on the source."""
    own = repository.startswith(f"{account}/")
    return own or account == "owner" or (account.startswith("friend") and repository.startswith("src/"))


class TokenServer(BaseHTTPRequestHandler):
    """Issues tokens for what accounts may do, as issuers other than dualreg do.

    Attributes:
        names: Whether tokens name what they do not grant.
        age: Seconds that tokens seem to be old.
    """

    names, age = True, 0

    def do_GET(self) -> None:
        """Return a token for the scopes of the query."""
        login = self.headers.get("Authorization", "").partition(" ")[2]
        account = base64.b64decode(login).decode().partition(":")[0]
        scopes = " ".join(parse_qs(urlsplit(self.path).query).get("scope", [])).split()
        access = []
        for _, name, actions in (scope.split(":", 2) for scope in scopes):
            may = may_use(account, name)
            if may or self.names:
                access.append(
                    {"type": "repository", "name": name, "actions": actions.split(",") if may else []}
                )
        now = int(time.time())
        claims = {"iss": "other", "aud": "registry", "sub": account, "access": access}
        claims |= {"exp": now + 900, "iat": now - self.age}
        token = jwt.encode(claims, KEY, "ES256", headers={"kid": key_id(KEY.public_key())})
        body = json.dumps({"token": token, "expires_in": 900}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """Support no OAuth."""
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def trusting(folder: Path, *, names: bool, age: int) -> Iterator[Serving]:
    """Run a registry whose tokens come from a token server of that kind."""
    kind = type("Kind", (TokenServer,), {"names": names, "age": age})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        (folder / "key.pem").write_bytes(
            KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        with dualreg_process(
            folder / "data",
            auth="token",
            token_realm=f"http://127.0.0.1:{server.server_port}/token",
            token_issuer="other",
            token_service="registry",
            token_keys=str(folder / "key.pem"),
        ) as serving:
            yield serving
        server.shutdown()


@pytest.fixture(
    scope="module",
    params=[{"names": True, "age": 0}, {"names": False, "age": 0}, {"names": False, "age": 300}],
    ids=["names refusals", "omits refusals", "omits refusals, old tokens"],
)
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A registry behind each kind of token server."""
    with trusting(tmp_path_factory.mktemp("mounts"), **request.param) as serving:
        yield serving


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["friend", "guest"])
@pytest.mark.parametrize("program", ["skopeo", "buildah", "docker"])
def test_pushes_across_repositories(
    serving: Serving,
    request: pytest.FixtureRequest,
    layout: Path,
    program: str,
    kind: str,
) -> None:
    """Layers are mounted from where the account may pull, and uploaded otherwise; the push succeeds."""
    account = f"{kind}-{program}"
    source, target = f"src/{account}:1", f"{account}/app:1"
    with TemporaryDirectory(prefix="dualreg-") as folder:
        home = Tools(Path(folder), serving.host)
        if program == "docker":
            home = request.getfixturevalue("docker")
            patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
            patch.setattr(home, "env", {**home.env, "HOME": folder})  # for logins of its own
            docker_push(home, layout, f"{serving.host}/{source}", f"{serving.host}/{target}", account)
        for who, name in (("owner", source), (account, target)) if program != "docker" else ():
            credentials = ["--creds", f"{who}:x"] if program == "buildah" else ["--dest-creds", f"{who}:x"]
            if program == "skopeo":
                home.push(*credentials, f"oci:{layout}:base", name=name)
                continue
            home.buildah("pull", "-q", f"oci:{layout}:base")
            image = home.buildah("images", "-q").splitlines()[0]
            home.buildah("push", "--tls-verify=false", *credentials, image, f"docker://{serving.host}/{name}")
        pulled = Tools(Path(folder) / "pulled", serving.host)
        pulled.pull(target, f"dir:{folder}/out", "--src-creds", f"{account}:x")
    mounted = re.compile(rf'"POST /v2/{target[:-2]}/blobs/uploads/ HTTP/1.1" 201 ')
    assert until(lambda: f"PUT /v2/{target[:-2]}/manifests/1" in serving.log.read_text())
    assert bool(mounted.search(serving.log.read_text())) is (kind == "friend")


def docker_push(docker: Tools, layout: Path, source: str, target: str, account: str) -> None:
    """Push *source* as the owner, then the same image as another account's *target*."""
    archive, host = docker.home / "mount.tar", source.partition("/")[0]
    archive.unlink(missing_ok=True)
    docker.skopeo("copy", f"oci:{layout}:base", f"docker-archive:{archive}:{source}")
    docker.docker("load", "-q", "-i", archive)
    docker.docker("tag", source, target)
    for who, name in (("owner", source), (account, target)):
        docker.docker("login", "-u", who, "-p", "x", host)
        docker.docker("push", "-q", name)
        docker.docker("logout", host)
    docker.docker("rmi", source, target)
