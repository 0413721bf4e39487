"""Examination: what is wrong with a page for people with other senses, on small screens, or in the dark.

Source: axe-core's rules for WCAG 2.2 AA and its best practices; WCAG 2.2, 1.4.10 Reflow.
"""

from collections.abc import Iterator

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page

#: Pixels: of a phone, of a tablet or half a screen, and of a screen.
WIDTHS = (390, 800, 1280)
HEIGHT = 800
#: All rules, also that of 2.5.8, which axe leaves out unless it is named.
_RULES = {"rules": {"target-size": {"enabled": True}}, "resultTypes": ["violations"]}
#: Resolves once scripts have seen the size of the window.
_SETTLED = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
#: The captions that are wider than what is seen of their tables.
_CUT = """[...document.querySelectorAll(".scroll > table > caption")]
    .filter((each) => each.getBoundingClientRect().width > each.closest(".scroll").clientWidth + 1)
    .map((each) => each.textContent)"""


def examine(page: Page, *, dark: bool = False) -> list[str]:
    """Return what is wrong with the page that is shown; axe looks at it on the smallest screen."""
    page.emulate_media(color_scheme="dark" if dark else "light")
    found = []
    for width in reversed(WIDTHS):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        if (wider := page.evaluate(_WIDER)) > 0:
            found.append(f"{wider} pixels wider than a window of {width}")
        found += [f"cut in a window of {width}: {caption}" for caption in page.evaluate(_CUT)]
    page.evaluate(_SETTLED)
    return [*found, *_violations(page)]


def _violations(page: Page) -> Iterator[str]:
    page.evaluate(AXE_SCRIPT)
    result = page.evaluate("options => axe.run(document, options)", _RULES)
    for each in result["violations"]:
        yield f"{each['id']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
