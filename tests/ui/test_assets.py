"""What pages load: how much, how browsers keep it, and whether its colors can be read."""

import re
from importlib.resources import files

import pytest

from dualreg.web.ui import assets
from tests.auth.conftest import Guarded
from tests.ui.conftest import Browser

#: Bytes of the first page that somebody opens, with all that it loads.
BUDGET = 60_000
STYLE = (files("dualreg.web.ui") / "static" / "style.css").read_text()
#: Pairs of a color and what is behind it; text needs 4.5, what only shows where something is 3.
TEXTS = [
    (front, back)
    for front in ("text", "quiet", "link", "error", "warn", "good")
    for back in ("page", "panel")
] + [("on-primary", "primary")]
SHAPES = [("line", "page"), ("focus", "page"), ("focus", "panel")]


def test_the_first_load(own: Guarded) -> None:
    """Everything that the page names, as browsers ask for it, fits; nothing is loaded twice."""
    browser = Browser.of(own)
    page = browser.get("/ui/")
    loaded = re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', page.text)
    assert len(loaded) == 4
    total = len(page.data)
    for path in loaded:
        plain = browser.client.get(path)
        packed = browser.client.get(path, headers={"Accept-Encoding": "gzip, deflate, br"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
        assert packed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert packed.headers["X-Content-Type-Options"] == "nosniff"
        total += len(packed.data)
    assert total < BUDGET


def test_other_versions(own: Guarded) -> None:
    """An address of an older version is not kept; what there is not is not found."""
    client = own.client
    assert client.get("/ui/static/style.css?v=0").headers["Cache-Control"] == "no-cache"
    for name in ("none", "..%2fpage.py", "%2e%2e/page.py", "htmx.LICENSE"):
        assert client.get(f"/ui/static/{name}").status_code == 404


def test_the_script_of_others_has_its_licence() -> None:
    """Beside it, in the package."""
    folder = files(assets.__package__) / "static"
    assert "Zero-Clause BSD" in (folder / "htmx.LICENSE").read_text()


def _colors(text: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", text))


def _luminance(color: str) -> float:
    """Return the relative luminance.  Source: WCAG 2.2, "relative luminance"."""
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    """In both sets of colors, by WCAG 2.2, 1.4.3 and 1.4.11; and no color is written elsewhere."""
    light, _, rest = STYLE.partition("@media (prefers-color-scheme: dark)")
    dark, _, rules = rest.partition("\n}\n")
    colors = _colors(light if scheme == "light" else dark)
    assert colors.keys() == _colors(light).keys()
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    low = {pair: _contrast(*(colors[each] for each in pair)) for pair in TEXTS}
    assert {pair: found for pair, found in low.items() if found < 4.5} == {}
    low = {pair: _contrast(*(colors[each] for each in pair)) for pair in SHAPES}
    assert {pair: found for pair, found in low.items() if found < 3} == {}
    assert re.findall(r"#[0-9a-f]{3,6}\b|rgb|hsl", rules) == []
