"""Layers: who shares them, what they have, and what they change."""

import html
import re

import pytest

from dualreg.image.names import Tag
from tests import builders
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, CHAIN, SECRET, WEB, Browser

NAMES = ["<script>alert(1)</script>", "a\x1b[31m\nb", "\u202egpj.exe", "{{ 7*7 }}", "etc/.wh.old"]
SHOWN = ["/&lt;script&gt;alert(1)&lt;/script&gt;", r"/a\x1b[31m\nb", r"/\u202egpj.exe", "/{{ 7*7 }}"]
BASE = builders.layer({"etc/old": b"", "etc/passwd": b"", "usr/a": b""})
TOP = builders.layer({"etc/passwd": b"root", **dict.fromkeys(NAMES, b"")})
IMAGE = builders.image(BASE, TOP, oci=True)
LAYER = "/ui/layer"


def counts(browser: Browser, repository: str, tag: str) -> list[str]:
    """Return how many images, and V1 images, the page of an image says that its layers have."""
    text = browser.get("/ui/image", repository=repository, reference=tag).text
    rows = text.partition("<caption>How the image was built")[2].partition("</table>")[0]
    return [number for number in re.findall(r'class="number">([^<]+)</td>', rows) if number.isdecimal()]


def test_who_shares_a_layer(own: Guarded) -> None:
    """Images that one may not pull do not count; a V1 image counts as one, and as its manifest."""
    push_v2(own.registry, APP, Tag("mine"), IMAGE)
    push_v2(own.registry, WEB, Tag("mine"), builders.image(BASE))
    push_v2(own.registry, SECRET, Tag("theirs"), builders.image(BASE, author="secret"))
    assert counts(Browser.of(own, "reader"), APP, "mine") == ["2", "0", "1", "0"]
    assert counts(Browser.of(own, "root"), APP, "mine") == ["3", "0", "1", "0"]
    assert counts(Browser.of(own, "reader"), WEB, "old") == ["1", "1"] * len(CHAIN)


def paths(text: str) -> list[str]:
    """Return the paths in a list, as the page writes them."""
    cells = re.findall(r'<th scope="row">(.*?)</th>', text)
    return [re.sub(r"</?(?:a|bdi|code)\b[^>]*>", "", cell).strip() for cell in cells]


def test_files_and_changes(own: Guarded) -> None:
    """By links from the page of the image; names are escaped, whatever they are."""
    push_v2(own.registry, APP, Tag("mine"), IMAGE)
    browser = Browser.of(own, "reader")
    page = browser.get("/ui/image", repository=APP, reference="mine").text
    base, top = (html.unescape(each) for each in re.findall(r'href="(/ui/layer[^"]*)"', page))
    assert paths(browser.get(base).text) == ["/etc/old", "/etc/passwd", "/usr/a"]
    files = browser.get(top).text
    assert paths(files) == ["/etc/passwd", *SHOWN, "removes /etc/old"]
    (link,) = re.findall(r'href="([^"]*changes=1[^"]*)"', files)
    changes = browser.get(html.unescape(link)).text
    found = [*zip(re.findall(r'badge-(\w+)"', changes), paths(changes), strict=True)]
    assert ("removed", "/etc/old") in found
    assert ("changed", "/etc/passwd") in found
    assert sorted(path for change, path in found if change == "added") == sorted(SHOWN)
    assert "Layer 2 of team/app:mine" in changes


def test_a_path(own: Guarded) -> None:
    """What is at it and below it, also on further pages; the form keeps what the page is about."""
    files = {f"{folder}/{number:03}": b"" for folder in ("a", "ab") for number in range(150)}
    push_v2(own.registry, APP, Tag("many"), builders.image(builders.layer(files)))
    browser = Browser.of(own, "reader")
    for changes in ({}, {"changes": "1"}):
        text = browser.get(LAYER, repository=APP, reference="many", path="a/", **changes).text
        assert ('name="changes" value="1"' in text) == bool(changes)
        first = paths(text)
        following = re.search(r'rel="next" href="([^"]*)"', text)
        assert following
        second = paths(browser.get(html.unescape(following[1])).text)
        assert first + second == [f"/a/{number:03}" for number in range(150)]
        assert (len(first), "Nothing at this path" in text) == (100, False)
        none = browser.get(LAYER, repository=APP, reference="many", path="/none", **changes).text
        assert "Nothing at this path" in none


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"layer": "ffff"}, 404),
        ({"layer": f"sha256:{'0' * 64}"}, 404),
        ({"layer": "x"}, 400),
        ({"platform": "linux"}, 400),
        ({"after": "x"}, 400),
        ({"reference": "none"}, 404),
        ({"repository": "secret/app"}, 404),
        ({"after": "99999999"}, 200),
        ({"path": "\0"}, 400),
        ({"path": "%"}, 200),
        ({"changes": "1", "layer": ""}, 200),
    ],
)
def test_what_there_is_not(own: Guarded, query: dict[str, str], status: int) -> None:
    """It is said, on a page."""
    push_v2(own.registry, APP, Tag("mine"), IMAGE)
    given = {"repository": APP, "reference": "mine", **query}
    answer = Browser.of(own, "reader").get(LAYER, **given)
    assert (answer.status_code, "<h1>" in answer.text) == (status, True)


def test_two_images_are_compared(own: Guarded) -> None:
    """By the form on the page of an image, which keeps its platform; layers lead to what they change."""
    for tag, image in (("old", builders.image(BASE)), ("new", IMAGE)):
        push_v2(own.registry, APP, Tag(tag), image)
    browser = Browser.of(own, "reader")
    page = browser.get("/ui/image", repository=APP, reference="old", platform="linux/amd64").text
    form = page.partition('action="/ui/comparison"')[2].partition("</form>")[0]
    given = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    assert given == {"repository": APP, "reference": "old", "platform": "linux/amd64"}
    text = browser.get("/ui/comparison", **given, other="new").text
    assert re.findall(r'badge-(\w+)"', text) == ["both", "second"]
    links = [html.unescape(each) for each in re.findall(r'href="(/ui/layer[^"]*)"', text)]
    assert sorted(paths(browser.get(links[1]).text)) == sorted([*SHOWN, "/etc/passwd", "/etc/old"])
