"""Keys: what they do in a real browser, and when they do nothing."""

import pytest
from playwright.sync_api import expect

from tests.browser.chromium import Visit
from tests.browser.conftest import Begin
from tests.browser.examination import examine
from tests.ui.conftest import APP, HOOK

pytestmark = [pytest.mark.client, pytest.mark.slow]


def focused(visit: Visit) -> str:
    """Return the text of the row that has the focus."""
    return str(
        visit.page.evaluate("document.activeElement.closest('tr')?.querySelector('th').innerText.trim()")
    )


def test_moving_and_copying(begin: Begin) -> None:
    """``j`` and ``k`` go from row to row, not over the ends; ``c`` copies the first command."""
    page = (visit := begin("reader")).page
    visit.open(f"/ui/repository?repository={APP}")
    names = page.locator("tbody th").all_inner_texts()
    seen = []
    for key in ["j", "j", "k", "k", *"j" * len(names), "k"]:
        page.keyboard.press(key)
        seen.append(focused(visit))
    assert seen[:4] == [names[0], names[1], names[0], names[0]]
    assert seen[-2:] == [names[-1], names[-2]]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(f"{APP}:{names[-2]}")
    page.wait_for_load_state()  # the scripts are there
    page.keyboard.press("c")
    expect(page.get_by_role("status")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("pre code").first.inner_text()


def test_without_storage(begin: Begin) -> None:
    """Where the browser lets pages store nothing, scripts work all the same."""
    page = (visit := begin("reader")).page
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', "
        "{ get() { throw new DOMException('', 'SecurityError'); } })"
    )
    visit.open(f"/ui/repository?repository={APP}")
    page.keyboard.press("j")
    assert focused(visit) == page.locator("tbody th").first.inner_text()
    page.get_by_role("button", name="Keys").click()
    page.get_by_label("Use these keys").uncheck()


def test_ticking(begin: Begin) -> None:
    """``x`` ticks the row that has the focus, and takes the tick away; one moves on from there."""
    page = (visit := begin("root")).page
    visit.open(f"/ui/webhook?name={HOOK}&dead=1")
    boxes = page.get_by_role("main").get_by_role("checkbox")
    for key in ("j", "x", "j", "x", "j", "x", "x"):
        page.keyboard.press(key)
    assert [boxes.nth(number).is_checked() for number in range(3)] == [True, True, False]


def test_help(begin: Begin) -> None:
    """``?`` shows it; keys are letters where one types, and nothing once they are switched off."""
    page = (visit := begin()).page
    visit.open("/ui/")
    page.keyboard.press("/")
    page.keyboard.type("/jx?")
    expect(page.get_by_label("Find a repository")).to_have_value("/jx?")
    help = page.get_by_role("dialog")
    expect(help).to_be_hidden()
    page.get_by_role("main").focus()
    page.keyboard.press("?")
    expect(help).to_be_visible()
    assert examine(page) == []
    page.keyboard.press("Escape")
    expect(help).to_be_hidden()
    page.get_by_role("button", name="Keys").click()
    help.get_by_label("Use these keys").uncheck()
    help.get_by_role("button", name="Close").click()
    for _ in range(2):
        page.keyboard.press("?")
        expect(help).to_be_hidden()
        page.reload()
