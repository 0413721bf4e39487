"""Every page in a real browser: by the rules of accessibility, on small screens, without errors."""

import pytest

from tests.browser.conftest import Begin
from tests.browser.examination import examine
from tests.browser.world import World
from tests.soak import short_or_long
from tests.ui.conftest import SECRET

pytestmark = [pytest.mark.client, pytest.mark.slow]

#: What is different for who has not logged in: the address of a page, and the status.
_STRANGER = {"/ui/": 200, "/ui/login": 200, f"/ui/repository?repository={SECRET}": 404}


def test_pages_of_an_administrator(begin: Begin, world: World) -> None:
    """On each, axe finds nothing, and nothing is wider than the window; every other one is dark.

    With SOAK, each is looked at in both colors.
    """
    visit, faults = begin("root"), {}
    for number, path in enumerate(world.pages):
        assert visit.open(path) == 200, path
        for dark in short_or_long((bool(number % 2),), (False, True)):
            faults[path, dark] = examine(visit.page, dark=dark)
    assert {place: found for place, found in faults.items() if found} == {}
    assert len(faults) > 20


def test_pages_of_who_has_not_logged_in(begin: Begin) -> None:
    """The same of these, and of the page of what does not exist, of which the browser says so."""
    visit = begin()
    for path, status in _STRANGER.items():
        assert visit.open(path) == status
        assert examine(visit.page) == []
    assert len(visit.complaints) == 1
    assert "status of 404" in visit.complaints.pop()
