"""Layers: who shares them."""

import re

from dualreg.image.names import Tag
from tests import builders
from tests.auth.conftest import Guarded
from tests.properties.registries import push_v2
from tests.ui.conftest import APP, CHAIN, SECRET, WEB, Browser

BASE = builders.layer({"etc/old": b"", "etc/passwd": b"", "usr/a": b""})
TOP = builders.layer({"etc/passwd": b"root"})
IMAGE = builders.image(BASE, TOP, oci=True)


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
