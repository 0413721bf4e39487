"""What one instance changes, all of them know."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.auth.accounts import Accounts
from dualreg.auth.keyring import Keyring
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from tests import builders
from tests.auth.conftest import PASSWORD, basic, bearer
from tests.clients.tools import Tools
from tests.instances.conftest import STORAGES
from tests.instances.fleet import Fleet, fleet, shared_storage
from tests.programs import DUALREG, require, running
from tests.protocol.clients.wire import Answer, Wire

pytestmark = [pytest.mark.postgres, pytest.mark.client, pytest.mark.slow]

SCOPE = "repository:team/app:pull,push,delete"
BLOBS = "/v2/team/app/blobs"


@pytest.fixture(scope="module", params=STORAGES)
def guarded(
    request: pytest.FixtureRequest, certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three instances with accounts, of which alice may do everything in team/."""
    folder = tmp_path_factory.mktemp("guarded")
    with (
        shared_storage(request.param, folder) as settings,
        fleet(folder, certificate, settings | {"auth": "accounts", "x_accel_prefix": ""}) as made,
        closing(Catalog(str(settings["database"]))) as catalog,
    ):
        accounts = Accounts(catalog, Passwords(rounds=4))
        for name in ("alice", "bob"):
            accounts.add(name, PASSWORD)
            accounts.grant(name, "team/*", "pull,push,delete")
        yield made


@pytest.fixture
def catalog(guarded: Fleet) -> Iterator[Catalog]:
    """The catalog of all instances."""
    with closing(Catalog(str(guarded.settings["database"]))) as catalog:
        yield catalog


def ask(
    fleet: Fleet, number: int, method: str, path: str, headers: dict[str, str], *, body: bytes = b""
) -> Answer:
    """Send a request to an instance."""
    given = None if method in ("GET", "HEAD") else body
    return Wire(fleet.instances[number].host).send(method, path, headers, given)


def token(fleet: Fleet, number: int, account: str = "alice") -> dict[str, str]:
    """Return the header of a token that an instance issues."""
    answer = ask(fleet, number, "GET", f"/token?service=dualreg&scope={SCOPE}", basic(account))
    return bearer(json.loads(answer.body)["token"])


def statuses(fleet: Fleet, method: str, path: str, headers: dict[str, str]) -> list[int]:
    """Return what each instance answers, twice: the second time as it remembers it."""
    return [ask(fleet, each, method, path, headers).status for each in (0, 1, 2, 0, 1, 2)]


def command(fleet: Fleet, folder: Path, number: int, *words: str) -> None:
    """Run a command beside an instance; it succeeds."""
    log = folder / "command.log"
    with running([DUALREG, *words], log, fleet.environment(number)) as process:
        assert process.wait(60) == 0, log.read_text()


def test_skopeo_logs_in(guarded: Fleet, tmp_path: Path) -> None:
    """Each of its requests, and each for a token, goes to another instance."""
    require("skopeo", package="skopeo")
    tools = Tools(tmp_path / "home", guarded.host)
    image = builders.image(*(builders.layer({"f": bytes([number])}) for number in range(3)))
    builders.skopeo_folder(tmp_path / "image", image)
    tools.skopeo("login", "--tls-verify=false", "-u", "alice", "-p", PASSWORD, guarded.host)
    tools.push(f"dir:{tmp_path}/image", name="team/skopeo:1")
    tools.pull("team/skopeo:1", f"dir:{tmp_path}/pulled")


def test_keys_are_rotated_for_all(guarded: Fleet, catalog: Catalog) -> None:
    """Tokens by the new key are valid at once, and those by the former one for the grace."""
    old = token(guarded, 0)
    assert statuses(guarded, "GET", "/v2/", old) == [200] * 6
    Keyring(catalog).rotate(timedelta(hours=1))
    assert statuses(guarded, "GET", "/v2/", old) == [200] * 6
    for number in range(3):
        assert statuses(guarded, "GET", "/v2/", token(guarded, number)) == [200] * 6


def test_what_is_taken_back_is_gone_at_all(guarded: Fleet, catalog: Catalog) -> None:
    """A permission, and an account."""
    accounts = Accounts(catalog, Passwords(rounds=4))
    path = "/v2/team/app/tags/list"
    blob = b"of the repository"
    upload = f"{BLOBS}/uploads/?digest={Digest.of(blob)}"
    assert ask(guarded, 0, "POST", upload, basic("alice"), body=blob).status == 201
    assert 401 not in statuses(guarded, "GET", path, basic("bob"))
    accounts.ungrant("bob", "team/*", None)
    assert {*statuses(guarded, "GET", path, basic("bob"))} <= {401, 403}
    accounts.remove("bob")
    assert {*statuses(guarded, "GET", "/v2/", basic("bob"))} == {401}


def test_an_answer_is_not_remembered_for_longer(guarded: Fleet) -> None:
    """A tag that is moved, or deleted, at another instance; a blob that is deleted there."""
    headers, images = token(guarded, 0), [builders.image(builders.layer({"a": bytes([n])})) for n in range(2)]
    for number, (digest, blob) in enumerate((images[0].blobs | images[1].blobs).items()):
        path = f"{BLOBS}/uploads/?digest={digest}"
        assert ask(guarded, number % 3, "POST", path, headers, body=blob).status == 201
    for number, image in enumerate((*images, *images)):
        put = headers | {"Content-Type": image.media_type}
        assert (
            ask(guarded, number % 3, "PUT", "/v2/team/app/manifests/1", put, body=image.manifest).status
            == 201
        )
        get = headers | {"Accept": image.media_type}
        for each in (0, 1, 2, 0, 1, 2):
            assert ask(guarded, each, "GET", "/v2/team/app/manifests/1", get).body == image.manifest
    for path in ("/v2/team/app/manifests/1", *(f"/v2/team/app/manifests/{each.digest}" for each in images)):
        assert {*statuses(guarded, "HEAD", path, headers)} == {200}
        assert ask(guarded, 1, "DELETE", path, headers).status == 202
        assert {*statuses(guarded, "HEAD", path, headers)} == {404}
    for digest in images[0].blobs:
        assert {*statuses(guarded, "HEAD", f"{BLOBS}/{digest}", headers)} == {200}
        assert ask(guarded, 2, "DELETE", f"{BLOBS}/{digest}", headers).status == 202
        assert {*statuses(guarded, "HEAD", f"{BLOBS}/{digest}", headers)} == {404}


def test_a_blob_is_mounted(guarded: Fleet) -> None:
    """From a repository for which another instance has just received it.

    And an upload is begun at one, and goes on, is looked at, and is cancelled at others.
    """
    headers, blob = basic("alice"), b"mounted elsewhere"
    post = f"/v2/team/source/blobs/uploads/?digest={Digest.of(blob)}"
    assert ask(guarded, 0, "POST", post, headers, body=blob).status == 201
    mount = f"/v2/team/mounted/blobs/uploads/?mount={Digest.of(blob)}&from=team/source"
    assert [ask(guarded, number, "POST", mount, headers).status for number in (1, 2)] == [201, 201]
    begun = ask(guarded, 0, "POST", "/v2/team/mounted/blobs/uploads/", headers).headers["location"]
    patched = ask(guarded, 1, "PATCH", begun, headers, body=b"some").headers["location"]
    assert ask(guarded, 2, "GET", patched, headers).headers["range"] == "0-3"
    again = ask(guarded, 0, "PATCH", patched, headers, body=b" more").headers
    assert again["range"] == "0-8"
    assert ask(guarded, 1, "DELETE", again["location"], headers).status == 204
    assert statuses(guarded, "GET", again["location"], headers) == [404] * 6


def test_all_are_read_only(guarded: Fleet, tmp_path: Path) -> None:
    """Whichever instance the command is run beside."""
    headers = token(guarded, 0)
    for number in range(2):
        command(guarded, tmp_path, number, "readonly", "on", "--reason", "moving")
        time.sleep(1.2)
        posted = [ask(guarded, each, "POST", f"{BLOBS}/uploads/", headers) for each in range(3)]
        assert [each.status for each in posted] == [405] * 3
        assert all(b"moving" in each.body for each in posted)
        command(guarded, tmp_path, 2 - number, "readonly", "off")
        time.sleep(1.2)
        posted = [ask(guarded, each, "POST", f"{BLOBS}/uploads/", headers) for each in range(3)]
        assert [each.status for each in posted] == [202] * 3
