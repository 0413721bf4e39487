"""Pages ask the database the same number of questions, however much there is."""

from threading import get_ident

import pytest
from sqlalchemy import event

from dualreg.catalog.database import Catalog
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import v1_mode
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, HOOK, IMAGES, Browser

#: Pages, and the most statements that each may take, those for the session and its permissions included.
PAGES = {
    "/ui/": 12,
    "/ui/repositories": 12,
    "/ui/repositories?under=team/": 12,
    "/ui/repositories?search=a": 12,
    "/ui/repositories?search=team": 12,
    "/ui/repositories?search=team:v": 14,
    "/ui/operations": 40,
    "/ui/usage": 30,
    f"/ui/repository?repository={APP}": 24,
    f"/ui/repository?repository={APP}&sort=-size&prefix=v": 24,
    f"/ui/repository?repository={APP}&sort=pulled": 24,
    f"/ui/tags/delete?repository={APP}&tag=v1&tag=v2&tag=none": 22,
    f"/ui/history?repository={APP}&tag=v1": 12,
    f"/ui/image?repository={APP}&reference=v1": 30,
    f"/ui/comparison?repository={APP}&reference=v1&other=latest": 30,
    f"/ui/layer?repository={APP}&reference=v1": 12,
    f"/ui/faces?repository={APP}&tag=v1": 40,
    "/ui/farewell": 22,
    "/ui/migrations": 22,
    "/ui/tasks": 22,
    "/ui/webhooks": 22,
    f"/ui/webhook?name={HOOK}": 22,
    "/ui/audit": 22,
    "/ui/access": 22,
    f"/ui/access/explain?who=reader&repository={APP}&action=push": 22,
    "/ui/accounts": 22,
    "/ui/groups": 22,
    "/ui/access/keys": 22,
}


def counted(catalog: Catalog, browser: Browser, path: str) -> int:
    """Return how many statements a page takes."""
    seen, here = list[str](), get_ident()

    def note(*given: object) -> None:
        text = str(given[2])
        if get_ident() == here and not text.startswith(("BEGIN", "SELECT pg_current_snapshot")):
            seen.append(text)

    event.listen(catalog.engine, "before_cursor_execute", note)
    try:
        assert browser.get(path).status_code == 200
    finally:
        event.remove(catalog.engine, "before_cursor_execute", note)
    return len(seen)


@pytest.mark.slow
def test_statements_of_pages(own: Guarded, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many with thirty more repositories, tags, moves, accounts, groups, keys and webhooks."""
    own.accounts.join("dev", "reader")
    own.accounts.add_key("reader", limits="", note="")
    browser = Browser.of(own, "root")
    monkeypatch.setattr(v1_mode, "FRESH", 0.0)  # every page looks
    before = {path: counted(catalog, browser, path) for path in PAGES}
    for number in range(30):
        push_v2(own.registry, RepositoryName(f"team/more/{number}"), Tag("v1"), IMAGES[0])
        push_v2(own.registry, APP, Tag(f"more{number}"), IMAGES[number % 3])
        push_v2(own.registry, APP, Tag("v1"), IMAGES[number % 2])
        own.account(account := f"more{number}", ("more/*", "pull"))
        own.accounts.join(f"group{number}", account)
        own.accounts.add_key(account, limits="", note="")
        own.registry.webhooks.add(WebhookRow(account, "https://a.example", "docker", ("*",), ("push",)))
    after = {path: counted(catalog, browser, path) for path in PAGES}
    assert after == before
    assert {path: count for path, count in before.items() if count > PAGES[path]} == {}
