"""What nginx may answer itself: it is said by ``/_pull``, and by a header of answers that stay the same."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from dualreg.storage.filesystem import FilesystemStore
from dualreg.web import context
from dualreg.web.app import create_app
from tests.auth.conftest import Guarded, basic, bearer
from tests.builders import image, layer
from tests.conftest import Clock, build_registry
from tests.properties.registries import push_v2

NAME = RepositoryName("team/app")
IMAGE = image(layer({"f": b"1"}))
PULL, BLOB = f"/_pull?repository={NAME}", f"/v2/{NAME}/blobs/{next(iter(IMAGE.blobs))}"
MANIFEST = f"/v2/{NAME}/manifests/{IMAGE.digest}"
HEADER = "X-Accel-Expires"


@pytest.fixture(params=[{}])
def behind(request: pytest.FixtureRequest, catalog: Catalog, tmp_path: Path) -> Iterator[Guarded]:
    """A registry with accounts behind nginx, with the parameter's settings; alice may pull an image."""
    settings = Settings.model_validate(
        {"auth": "accounts", "audit": str(tmp_path / "audit"), "x_accel_prefix": "/_blobs"} | request.param
    )
    registry = build_registry(catalog, FilesystemStore(tmp_path / "data"))
    push_v2(registry, NAME, Tag("one"), IMAGE)
    app = create_app(settings, registry)
    client = app.test_client(use_cookies=False)
    guarded = Guarded(client, Accounts(catalog, Passwords(rounds=4)), registry, settings)
    guarded.account("alice", ("team/*", "pull,push"))
    yield guarded
    with app.app_context():
        context.audit().close()


def token(behind: Guarded, account: str = "alice") -> dict[str, str]:
    """Return the header with a token that was asked for NAME."""
    return bearer(behind.token(f"repository:{NAME}:pull", headers=basic(account)))


def audited(behind: Guarded) -> int:
    """Return how many lines the audit log has."""
    file = Path(behind.settings.audit_target)
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_who_may_pull(behind: Guarded) -> None:
    """Whoever may gets 204 and a time; all others 403, and no line in the audit log."""
    behind.account("bob")
    lines = audited(behind)
    allowed = behind.client.get(PULL, headers=token(behind))
    assert (allowed.status_code, allowed.data) == (204, b"")
    assert allowed.headers[HEADER] == "4"
    for headers in ({}, token(behind, "bob"), bearer("forged"), {"Authorization": "Token x"}):
        refused = behind.client.get(PULL, headers=headers)
        assert (refused.status_code, refused.data, HEADER in refused.headers) == (403, b"", False)
        assert "WWW-Authenticate" not in refused.headers
    for query in ("", "?repository=", "?repository=No/../pe", "?repository=team/other"):
        assert behind.client.get(f"/_pull{query}", headers=token(behind)).status_code == 403
    assert audited(behind) == lines
    behind.accounts.grant("anonymous", NAME, "pull")
    assert behind.client.get(PULL).status_code == 204


def test_passwords_are_not_tried(behind: Guarded) -> None:
    """Right or wrong ones are refused, however many, and none counts as a failed login."""
    for number in range(30):
        assert behind.client.get(PULL, headers=basic("alice", f"{number}")).status_code == 403
    assert behind.client.get(PULL, headers=basic("alice")).status_code == 403
    assert behind.client.get(BLOB, headers=basic("alice")).status_code == 200


def test_a_grant_ends_with_its_token(behind: Guarded, clock: Clock) -> None:
    """The answer is used in the second in which it expires too, so that is the one before.

    Clocks of other machines do not matter: it says for how long.
    """
    clock.advance(-timedelta(microseconds=clock().microsecond))
    key = behind.accounts.add_key("alice", limits="", note="", lifetime=timedelta(seconds=3)).text
    asked = behind.token(f"repository:{NAME}:pull", headers=basic("alice", key))
    allowed = behind.client.get(PULL, headers=bearer(asked))
    assert (allowed.status_code, allowed.headers[HEADER]) == (204, "2")


@pytest.mark.parametrize(
    "behind",
    [{"cors_origins": "https://a.example"}, {"request_limit": "9/s"}, {"x_accel_prefix": ""}],
    indirect=True,
)
def test_what_nginx_must_not_answer(behind: Guarded) -> None:
    """Answers that depend on the page that asks, requests that count, and all if nginx sends no blobs."""
    assert behind.client.get(PULL, headers=token(behind)).status_code == 403


def test_what_stays_the_same(behind: Guarded, clock: Clock) -> None:
    """Blobs and manifests by digest may be answered again, for as long as they are promised to stay."""
    headers, blob = basic("alice"), layer({"u": b"unused"})
    unused = f"/v2/{NAME}/blobs/{Digest.of(blob)}"
    behind.registry.uploads.ingest(NAME, [blob])
    for path in (BLOB, MANIFEST, unused):
        assert [behind.client.get(path, headers=headers).headers[HEADER] for _ in range(2)] == ["4", "4"]
    for path in (f"/v2/{NAME}/manifests/one", f"/v2/{NAME}/tags/list", "/v2/"):
        assert HEADER not in behind.client.get(path, headers=headers).headers
    clock.advance(timedelta(hours=12, seconds=-5))
    answer = behind.client.get(unused, headers=headers)
    assert (answer.status_code, HEADER in answer.headers) == (200, False)
    clock.advance(timedelta(seconds=5))
    assert behind.client.get(unused, headers=headers).headers[HEADER] == "4"
    assert behind.registry.blobs.stat(NAME, Digest.of(blob)).noted_at == clock()


@pytest.mark.parametrize("behind", [{"gc_grace": "9s"}, {"x_accel_prefix": ""}], indirect=True)
def test_what_is_never_answered_again(behind: Guarded) -> None:
    """Anything, if it may be collected that soon, or if nginx sends no blobs."""
    for path in (BLOB, MANIFEST):
        assert HEADER not in behind.client.get(path, headers=token(behind)).headers
