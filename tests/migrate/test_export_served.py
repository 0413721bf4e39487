"""The nginx configuration of a static tree is valid, and neither names nor paths can add to it."""

import urllib.request
from pathlib import Path

import pytest

from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.migrate.export import Export, entries_to_export
from dualreg.migrate.names import Names
from dualreg.migrate.targets.base import TargetInvalid
from dualreg.migrate.targets.static_tree import StaticTreeTarget
from dualreg.registry import Registry
from tests import builders
from tests.migrate.stock_trees import LAYERS
from tests.nginx.static import static_server


@pytest.mark.client
def test_names_and_paths_of_every_sort(opened: Registry, tmp_path: Path) -> None:
    """Tags that differ in nothing but case, or are called as lists are; a path with quotes and braces."""
    pushed = {}
    for number, tag in enumerate(("1.0-RC1", "1.0-rc1", "1x0-RC1", "json", "JSON", "Images")):
        image = builders.image(LAYERS["a"], oci=bool(number % 2), author=tag)
        for name in (RepositoryName("team/app"), RepositoryName("team/tags/app")):
            for blob in image.blobs.values():
                opened.uploads.ingest(name, [blob])
            opened.manifests.put(name, Tag(tag), image.media_type, image.manifest)
            pushed[f"/v2/{name}/manifests/{tag}"] = image.media_type, str(image.digest)
    place = tmp_path / 'a "b"; {\\c\\\\ \'d'
    Export(opened, StaticTreeTarget(place, opened)).export_all([*entries_to_export(opened, Names())], jobs=2)
    with static_server(place, tmp_path) as host:
        for path, told in pushed.items():
            with urllib.request.urlopen(f"http://{host}{path}", timeout=10) as answer:
                assert (answer.headers["Content-Type"], answer.headers["Docker-Content-Digest"]) == told, path
                assert str(Digest.of(answer.read())) == told[1]


@pytest.mark.parametrize("name", ["$uri", "new\nline", "bell\a", "\udcff"])
def test_paths_that_nginx_cannot_be_told(opened: Registry, tmp_path: Path, name: str) -> None:
    """One readable line, and nothing is written."""
    with pytest.raises(TargetInvalid) as raised:
        StaticTreeTarget(tmp_path / name / "static", opened)
    assert str(raised.value).isprintable()
    assert not (tmp_path / name).exists()
