"""Fixtures: a registry, a browser, and who looks at the one with the other."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import PROGRAM, Visit, chromium
from tests.browser.world import World, served
from tests.programs import require


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A registry with something on every page."""
    require(PROGRAM, package="chromium")
    with served(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="package")
def browser(world: World) -> Iterator[Browser]:
    """Chromium; it is closed before the registry, which would wait for its connections."""
    del world
    with chromium() as browser:
        yield browser


Begin = Callable[..., Visit]


@pytest.fixture
def begin(world: World, browser: Browser) -> Iterator[Begin]:
    """Begins visits, each in a window of its own; in the end, the browser must not have complained."""
    visits = list[Visit]()
    with ExitStack() as stack:

        def make(
            account: str = "", *, scripts: bool = True, url: str = world.url, zone: str = "UTC"
        ) -> Visit:
            context = stack.enter_context(
                closing(browser.new_context(java_script_enabled=scripts, timezone_id=zone))
            )
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            visits.append(Visit.begin(context, url))
            if account:
                visits[-1].log_in(account)
            return visits[-1]

        yield make
    assert [each.complaints for each in visits if each.complaints] == []
