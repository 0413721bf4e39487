"""Differences of two images are what their layers and configs say, whoever pushed them."""

from dataclasses import replace
from typing import Any

import pytest

from dualreg.errors import ManifestUnknown
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64, Platform
from dualreg.image.signatures.trust import Trust
from dualreg.registry import Registry
from dualreg.registry.differences import ComparedImages, ComparedSetting, Side, differences
from tests import builders
from tests.properties.registries import push_v1, push_v2

NAME = RepositoryName("team/app")
BASE, LIBS, OLD, NEW = (builders.layer({name: name.encode() * 99}) for name in ("base", "libs", "old", "new"))
CONFIG: dict[str, Any] = {
    "Cmd": ["run"],
    "Env": ["A=1", "B=2=3", "C"],
    "Labels": {"version": "1", "team": "a"},
}
FIRST = builders.image(BASE, LIBS, BASE, OLD, config=CONFIG, author="Alice")
SECOND = builders.image(
    BASE,
    NEW,
    LIBS,
    oci=True,
    config=CONFIG | {"Cmd": ["run", "it"], "Env": ["A=2", "B=2=3", "D=4"], "Labels": {"version": "2"}},
)
ARM = builders.image(NEW, oci=True, architecture="arm64")
SETTINGS = {
    ComparedSetting("author", "Alice", ""),
    ComparedSetting("command", "run", "run it"),
    ComparedSetting("environment A", "1", "2"),
    ComparedSetting("environment D", "", "4"),
    ComparedSetting("label team", "a", ""),
    ComparedSetting("label version", "1", "2"),
}


def compare(registry: Registry, first: str, second: str, platform: Platform = LINUX_AMD64) -> ComparedImages:
    """Return how two tags differ."""
    images = (registry.inspection.described(NAME, Tag(each), platform) for each in (first, second))
    return differences(NAME, *images)


def sides(found: ComparedImages) -> list[tuple[Digest, Side]]:
    """Return which layers are where."""
    return [(each.layer, each.side) for each in found.layers]


def test_two_images(registry: Registry) -> None:
    """Layers in the order of the first image, each once; sizes add up; variables and labels one by one."""
    for tag, image in (("1", FIRST), ("2", SECOND)):
        push_v2(registry, NAME, Tag(tag), image)
    found, back = compare(registry, "1", "2"), compare(registry, "2", "1")
    base, libs, old, new = map(Digest.of, (BASE, LIBS, OLD, NEW))
    assert sides(found) == [
        (base, Side.BOTH), (libs, Side.BOTH), (old, Side.FIRST), (new, Side.SECOND)
    ]  # fmt: skip
    assert sides(back) == [
        (base, Side.BOTH), (new, Side.FIRST), (libs, Side.BOTH), (old, Side.SECOND)
    ]  # fmt: skip
    sizes = (len(BASE) + len(LIBS), len(OLD), len(NEW))
    assert (found.bytes, found.first_bytes, found.second_bytes) == sizes
    assert (back.bytes, back.second_bytes, back.first_bytes) == sizes
    assert {*found.settings} == SETTINGS
    assert {*back.settings} == {replace(each, first=each.second, second=each.first) for each in SETTINGS}
    same = compare(registry, "1", "1")
    assert ({each.side for each in same.layers}, same.settings) == ({Side.BOTH}, ())


def test_an_index_and_a_v1_image(registry: Registry) -> None:
    """The image for the platform counts; of what V1 clients pushed, the layers are those that they pushed."""
    for image in (SECOND, ARM):
        push_v2(registry, NAME, Tag("part"), image)
    registry.manifests.put(NAME, Tag("both"), media_types.OCI_INDEX, builders.index(SECOND, ARM))
    push_v1(registry, NAME, Tag("old"), builders.v1_chain(BASE, OLD))
    arm = Platform.parse("linux/arm64")
    assert compare(registry, "both", "part", arm).first == ARM.digest
    found = compare(registry, "both", "old")
    assert found.first == SECOND.digest
    assert {(each.layer, each.side) for each in found.layers} == {
        (Digest.of(BASE), Side.BOTH),
        (Digest.of(OLD), Side.SECOND),
        *((Digest.of(each), Side.FIRST) for each in (NEW, LIBS)),
    }
    with pytest.raises(ManifestUnknown, match="no image of it for linux/s390x"):
        compare(registry, "both", "part", Platform.parse("linux/s390x"))
    with pytest.raises(ManifestUnknown):
        compare(registry, "none", "part")


def test_an_index_within_an_index(registry: Registry) -> None:
    """It is no image, whatever platform the outer one gives it."""
    push_v2(registry, NAME, Tag("part"), SECOND)
    inner = builders.index(SECOND)
    registry.manifests.put(NAME, Tag("inner"), media_types.OCI_INDEX, inner)
    entry = builders.descriptor(
        media_types.OCI_INDEX, inner, platform={"os": "linux", "architecture": "amd64"}
    )
    registry.manifests.put(NAME, Tag("outer"), media_types.OCI_INDEX, builders.index_of(entry))
    with pytest.raises(ManifestUnknown, match="no image of it for linux/amd64"):
        compare(registry, "outer", "part")
    found = registry.inspection.inspect(NAME, Tag("outer"), LINUX_AMD64, Trust())
    assert (found.image, len(found.entries)) == (None, 1)
