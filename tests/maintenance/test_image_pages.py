"""Pages of the image check: together they have every selected tag once, and each costs little."""

import itertools
from fnmatch import fnmatchcase

import pytest

from dualreg.image.names import RepositoryName, Tag
from dualreg.image.platform import LINUX_AMD64
from dualreg.maintenance import image_check
from dualreg.maintenance.image_check import ImageCheck
from dualreg.migrate.names import selecting
from dualreg.patterns import fixed_start
from dualreg.registry import Registry
from tests import builders
from tests.properties.registries import push_v2

NAMES = [f"{name}:{tag}" for name in ("a", "a-b", "a/b", "a/b/c", "b", "z/a") for tag in ("v1", "v2", "w")]
IMAGE = builders.image(builders.layer({"a": b""}))


@pytest.mark.parametrize(("rows", "looked_at"), [(1, 1), (2, 3), (500, 5000)])
def test_pages_are_the_whole(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, rows: int, looked_at: int
) -> None:
    """For every pattern and length of a page; no page looks at more tags than it may."""
    monkeypatch.setattr(image_check, "_ROWS", rows)
    monkeypatch.setattr(image_check, "_LOOKED_AT", looked_at)
    for name in NAMES:
        repository, _, tag = name.partition(":")
        push_v2(registry, RepositoryName(repository), Tag(tag), IMAGE)
    check = ImageCheck(registry, LINUX_AMD64)
    for pattern, limit in itertools.product(("*", "a*", "a/*", "*:v*", "a/b", "a/*:w", "none/*"), (1, 4, 99)):
        found, place, pages = list[str](), ("", ""), 0
        within = fixed_start(pattern.partition(":")[0])
        while place:
            page = check.page(selecting([pattern]), place, limit, within)
            found += (f"{each.placed.repository}:{each.placed.row.name}" for each in page.tags)
            assert len(page.tags) <= limit
            assert page.looked <= looked_at + rows
            place, pages = page.end, pages + 1
        wanted = [
            name for name in sorted(NAMES, key=lambda name: name.split(":"))
            if fnmatchcase(name if ":" in pattern else name.partition(":")[0], pattern)
        ]  # fmt: skip
        assert found == wanted, (pattern, limit)
        assert pages <= len(NAMES) + 1
