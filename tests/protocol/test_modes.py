"""The setting ``v1``: which requests of old clients are served, and how the others are refused."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from dualreg.assembly import open_registry, prepare
from dualreg.settings import Settings, SettingsInvalid
from tests.apps import client_of

IMAGE = "a" * 64
REASON = "V1 ended here; use Docker 1.10"
OPEN = [("GET", "/v1/_ping", 200), ("GET", "/v1/search?q=x", 200)]
LOGIN = [("GET", "/v1/users/", 200), ("POST", "/v1/users/", 400)]
READS = [
    ("GET", "/v1/repositories/demo/app/images", 404),
    ("GET", "/v1/repositories/demo/app/tags", 404),
    ("GET", f"/v1/images/{IMAGE}/json", 404),
    ("GET", "/v1/repositories/BAD%20NAME/tags", 400),
]
WRITES = [
    ("PUT", "/v1/repositories/demo/app/"),
    ("PUT", "/v1/repositories/BAD%20NAME/"),
    ("PUT", f"/v1/images/{IMAGE}/json"),
    ("PUT", f"/v1/images/{IMAGE}/layer"),
    ("PUT", f"/v1/images/{IMAGE}/checksum"),
    ("PUT", "/v1/repositories/demo/app/tags/1"),
    ("PUT", "/v1/repositories/demo/app/images"),
    ("DELETE", "/v1/repositories/demo/app/tags/1"),
    ("DELETE", "/v1/repositories/demo/app/"),
]

Serve = Callable[[str], FlaskClient]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a client of a registry in the given mode."""
    with ExitStack() as stack:

        def served(mode: str) -> FlaskClient:
            settings = Settings.from_env(
                {"DUALREG_DATA": str(tmp_path), "DUALREG_V1": mode, "DUALREG_V1_REASON": REASON}
            )
            prepare(settings)
            registry = open_registry(settings)
            stack.callback(registry.close)
            return client_of(registry, settings)

        yield served


@pytest.mark.parametrize(("method", "path", "status"), OPEN)
@pytest.mark.parametrize("mode", ["on", "readonly", "off"])
def test_ping_and_search_stay(serve: Serve, mode: str, method: str, path: str, status: int) -> None:
    """Ping and search answer in every mode."""
    assert serve(mode).open(path, method=method).status_code == status


@pytest.mark.parametrize(("method", "path", "status"), [*LOGIN, *READS])
def test_readonly_reads(serve: Serve, method: str, path: str, status: int) -> None:
    """A read-only registry answers reads and logins as one that is on does."""
    answers = [serve(mode).open(path, method=method) for mode in ("on", "readonly")]
    assert [answer.status_code for answer in answers] == [status, status]
    assert answers[0].data == answers[1].data


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_readonly_refuses_writes(serve: Serve, method: str, path: str) -> None:
    """A read-only registry refuses every V1 write, and tells the reason."""
    answer = serve("readonly").open(path, method=method, data=b"[]")
    assert (answer.status_code, answer.json) == (405, {"error": REASON})


@pytest.mark.parametrize(
    ("method", "path"),
    [*WRITES, *((method, path) for method, path, _ in LOGIN + READS), ("GET", "/v1/"), ("GET", "/v1/none")],
)
def test_off_refuses_everything(serve: Serve, method: str, path: str) -> None:
    """With V1 off, every other path below /v1 is missing, known or not, and the answer tells the reason."""
    answer = serve("off").open(path, method=method, data=b"[]")
    assert (answer.status_code, answer.json) == (404, {"error": REASON})


@pytest.mark.parametrize(
    ("release", "status"),
    [("0.6.0", 410), ("1.2.0", 410), ("1.5.0", 410), ("1.6.2", 404), ("17.05.0-ce", 404)],
)
def test_off_is_no_missing_image(serve: Serve, release: str, status: int) -> None:
    """Docker before 1.6 would call a 404 to its pull a missing image; to later ones, that is what it is."""
    headers = {"User-Agent": f"docker/{release} go/go1.4"}
    client = serve("off")
    answer = client.get("/v1/repositories/demo/app/images", headers=headers)
    assert (answer.status_code, answer.json) == (status, {"error": REASON})
    assert client.get("/v1/repositories/demo/app/tags", headers=headers).status_code == 404


@pytest.mark.parametrize("mode", ["readonly", "off"])
def test_v2_is_untouched(serve: Serve, mode: str) -> None:
    """V2 clients can push in every mode of V1."""
    client = serve(mode)
    assert client.get("/v2/").status_code == 200
    assert client.post("/v2/v1/app/blobs/uploads/").status_code == 202


@pytest.mark.parametrize(
    ("variable", "value"), [("V1", "maybe"), ("V1", ""), ("V1_REASON", ""), ("V1_REASON", "two\nlines")]
)
def test_bad_settings_are_refused(variable: str, value: str) -> None:
    """A mode that does not exist, and a reason that no client could print, are refused by name."""
    with pytest.raises(SettingsInvalid, match=f"DUALREG_{variable}"):
        Settings.from_env({f"DUALREG_{variable}": value})
