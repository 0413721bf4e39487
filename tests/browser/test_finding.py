"""An image among a hundred thousand repositories, found by real clicks."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import expect
from sqlalchemy import insert

from dualreg.assembly import open_registry, prepare
from dualreg.catalog.database import Catalog
from dualreg.catalog.tables import Manifests, Repositories, RepositoryBlobs, Table, Tags
from dualreg.image.names import RepositoryName, Tag
from dualreg.settings import Settings
from tests.auth.conftest import PASSWORD
from tests.browser.conftest import Begin
from tests.browser.world import accounts_of
from tests.programs import dualreg_process
from tests.properties.registries import push_v2
from tests.ui.conftest import IMAGES

pytestmark = [pytest.mark.client, pytest.mark.slow]

_COUNT = 100_000
#: The one that is looked for, and what only its name contains.
_FOUND, _PART, _TAG = RepositoryName("team-77/service-77777"), "77777", Tag("1.4")
#: Seconds in which the server answers a search, on a machine that has much else to do.
_LIMIT = 30
_LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def _name(number: int) -> str:
    return f"team-{number % 100:02}/service-{number:05}"


def _fill(catalog: Catalog) -> None:
    """Have all repositories have the manifest, and the tag, of the one that was pushed."""
    digest, numbers = IMAGES[0].digest, [number for number in range(_COUNT) if _name(number) != _FOUND]
    manifest = {"digest": digest, "media_type": IMAGES[0].media_type, "artifact_type": "", "annotations": {}}
    tag = {"name": _TAG, "manifest": digest, "updated_at": _LONG_AGO}
    first = 10  # after that of the one that was pushed
    rows: dict[type[Table], list[dict[str, object]]] = {
        Repositories: [{"id": n + first, "name": _name(n), "created_at": _LONG_AGO} for n in numbers],
        RepositoryBlobs: [
            {"repository_id": n + first, "digest": digest, "linked_at": _LONG_AGO} for n in numbers
        ],
        Manifests: [{"repository_id": n + first, "pushed_at": _LONG_AGO, **manifest} for n in numbers],
        Tags: [{"repository_id": n + first, **tag} for n in numbers],
    }
    with catalog.engine.begin() as connection:
        for table, values in rows.items():
            connection.execute(insert(table), values)


@pytest.fixture
def large(tmp_path: Path) -> Iterator[str]:
    """The URL of a registry that has them."""
    settings = Settings.model_validate({"data": tmp_path / "data", "auth": "accounts", "audit": "off"})
    prepare(settings)
    with closing(open_registry(settings)) as registry:
        accounts = accounts_of(registry)
        accounts.add("reader", PASSWORD)
        accounts.grant("reader", "team-*", "pull")
        push_v2(registry, _FOUND, _TAG, IMAGES[0])
        _fill(registry.state.catalog)
    with dualreg_process(settings.data, auth="accounts", workers=1, fsck_rate=0, gc_interval="0s") as serving:
        yield f"http://{serving.host}"


def test_an_image_is_found_among_very_many(begin: Begin, large: str) -> None:
    """By a part of its name, and by that with a tag; then the command that pulls it is copied."""
    page = (visit := begin("reader", url=large)).page
    visit.open("/ui/")
    page.wait_for_load_state()  # the scripts are there
    page.keyboard.press("/")
    page.keyboard.type(_PART)
    page.keyboard.press("Enter")
    expect(page.locator("tbody th")).to_have_text([_FOUND])
    visit.follow(_FOUND)
    visit.follow(_TAG)
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{_FOUND}:{_TAG}")
    page.wait_for_load_state()
    page.keyboard.press("c")
    expect(page.get_by_role("status")).to_have_text("Copied")
    host = large.removeprefix("http://")
    assert page.evaluate("navigator.clipboard.readText()") == f"docker pull {host}/{_FOUND}:{_TAG}"
    visit.open("/ui/repositories")
    page.get_by_label("Find a repository").press_sequentially(f"{_PART}:1.")
    expect(page.locator("tbody th")).to_have_text([f"{_FOUND}:{_TAG}"])
    visit.follow(f"{_FOUND}:{_TAG}")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{_FOUND}:{_TAG}")
    for search in (_PART, f"{_PART}:1.", "service", "nothing"):
        began = time.monotonic()
        assert page.context.request.get(f"{large}/ui/repositories?search={search}").status == 200
        assert time.monotonic() - began < _LIMIT
