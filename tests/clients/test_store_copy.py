"""A registry that moves from files to a bucket, and back, while clients of all generations use it."""

import os
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests import builders
from tests.clients.test_s3 import run, settings
from tests.clients.tools import Tools, verified
from tests.contracts.radosgw import s3_bucket
from tests.programs import dualreg_process, require
from tests.protocol.clients.wire import Wire
from tests.protocol.everyone import push_by_some, require_some_pull

pytestmark = [pytest.mark.s3, pytest.mark.client, pytest.mark.slow]

FORMATS = ("v2s1", "v2s2", "oci")
IMAGE = builders.image(builders.layer({"big": os.urandom(3 << 20)}), builders.layer({"a": b"1"}))


@pytest.fixture
def chosen() -> Iterator[dict[str, str]]:
    """The settings of a registry over an empty bucket."""
    with s3_bucket() as url:
        yield {name: value for name, value in settings(url, "").items() if value}


def test_a_registry_moves_and_comes_back(tmp_path: Path, chosen: dict[str, str]) -> None:
    """All pull what was pushed, at any time, and from a catalog that is made from the new store, too."""
    require("skopeo", package="skopeo")
    data, source = tmp_path / "data", builders.skopeo_folder(tmp_path / "image", IMAGE)
    stores = [(tmp_path / "old").as_uri(), chosen["store"], (tmp_path / "back").as_uri()]
    with dualreg_process(data, **chosen | {"store": stores[0]}) as served:
        tools = Tools(tmp_path / "tools", served.host)
        push_by_some(served.host)
        for each in FORMATS:
            tools.push(f"--format={each}", f"dir:{source}", name=f"skopeo/{each}:1")
        copy(tmp_path, chosen | {"store": stores[0]}, stores[:2])
    for before, after in pairwise(stores):
        moving = chosen | {"store": after, "store_fallback": before}
        with dualreg_process(data, **moving) as served, working(tmp_path, served.host):
            require_everything(tmp_path, served.host)
            copy(tmp_path, moving, [before, after])
            require_everything(tmp_path, served.host)
        copy(tmp_path, moving, [before, after])
        if before.startswith("file"):
            shutil.rmtree(unquote(urlsplit(before).path))
        moved = chosen | {"store": after}
        with dualreg_process(data, **moved) as served:
            require_everything(tmp_path, served.host)
        run(tmp_path, moved, "fsck", "--read", "--data", data)
        rebuilt = moved | {"database": f"sqlite:///{tmp_path}/rebuilt.sqlite3"}
        run(tmp_path, rebuilt, "db", "rebuild", "--data", data)
        with dualreg_process(data, **rebuilt) as served:
            require_everything(tmp_path, served.host)
        (tmp_path / "rebuilt.sqlite3").unlink()


def copy(folder: Path, chosen: Mapping[str, str], stores: list[str]) -> None:
    """Copy from one store to the other, which must not lack anything then."""
    run(folder, chosen, "store", "copy", *stores, "--data", folder / "data")


@contextmanager
def working(folder: Path, host: str) -> Iterator[None]:
    """Have skopeo push images, and pull them again, during the block."""
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        tools = Tools(folder / "worker", host)
        try:
            for number in count():
                image = builders.image(builders.layer({"own": os.urandom(2 << 20)}))
                pushed = builders.skopeo_folder(folder / f"pushed-{number}", image)
                tools.push(f"dir:{pushed}", name=f"skopeo/worker:{number % 3}")
                tools.pull(f"skopeo/worker:{number % 3}", f"dir:{folder / f'pulled-{number}'}")
                assert verified(folder / f"pulled-{number}")[0] == str(image.digest)
                shutil.rmtree(folder / f"pulled-{number}")
                shutil.rmtree(pushed)
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
    for failure in failures:
        raise failure


def require_everything(folder: Path, host: str) -> None:
    """Assert that clients of all generations pull what was pushed first, and ranges of it."""
    require_some_pull(host)
    tools = Tools(folder / "tools", host)
    for each in FORMATS:
        tools.pull(f"skopeo/{each}:1", f"dir:{folder / 'out'}")
        _, manifest = verified(folder / "out")
        assert len(manifest.get("layers") or manifest["fsLayers"]) == len(IMAGE.layers)
        shutil.rmtree(folder / "out")
    digest, data = next((digest, data) for digest, data in IMAGE.blobs.items() if len(data) > 1 << 20)
    answer = Wire(host).send("GET", f"/v2/skopeo/v2s2/blobs/{digest}", {"Range": "bytes=1000000-1000099"})
    assert (answer.status, answer.body) == (206, data[1000000:1000100])
    answer = Wire(host).send("HEAD", f"/v2/skopeo/v2s2/blobs/{digest}")
    assert (answer.status, answer.headers["content-length"]) == (200, str(len(data)))
