"""What is served because an upstream fails says so, over both APIs, in lists, and in answers that wait."""

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualreg.errors import UpstreamFailed
from dualreg.image import media_types
from dualreg.image.layer import regzip
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry, transcoding
from dualreg.registry.rules import Rules
from dualreg.upstreams import breaker, checked
from dualreg.web import late
from tests import apps, builders
from tests.apps import client_of
from tests.migrate.fronts import Front
from tests.programs import until
from tests.upstreams.world import ACCEPT, IMAGE, OTHER, Here, There, here

NAME = "hub/team/seen"
_REFERRING = json.loads(builders.artifact("application/vnd.test", b"{}").manifest)
REFERRER = replace(
    builders.artifact("application/vnd.test", b"{}"),
    manifest=json.dumps(
        _REFERRING | {"subject": builders.descriptor(IMAGE.media_type, IMAGE.manifest)}
    ).encode(),
)
#: What can be asked for that depends on the upstream: by tag, lists, and what refers to an image.
PATHS = (
    f"/v1/repositories/{NAME}/tags",
    f"/v1/repositories/{NAME}/tags/1",
    f"/v1/repositories/{NAME}/images",
    f"/v2/{NAME}/tags/list",
    f"/v2/{NAME}/referrers/{IMAGE.digest}",
    f"/v2/{NAME}/manifests/1",
)
DOCKER_20_10 = {
    "Accept": ", ".join((*media_types.IMAGES, *media_types.INDEXES)),
    "User-Agent": "docker/20.10.24 go/go1.18 os/linux arch/amd64",
}


@pytest.fixture
def hub(between: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A registry that serves the other as ``hub/*``, and looks at every request whether tags have changed."""
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(breaker, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(checked, "_RETRY", checked._RETRY / 100)
    monkeypatch.setattr(apps, "COMPARING", False)  # an answer says when it was asked for
    with here(tmp_path / "data", between.url, check_interval="0s") as opened:
        yield opened


def warnings_of(hub: Here) -> dict[str, str | None]:
    """Return the warning of each answer, all of which have content."""
    answers = {path: hub.client.get(path, headers=ACCEPT) for path in PATHS}
    assert {answer.status_code for answer in answers.values()} == {200}
    return {path: answer.headers.get("Warning") for path, answer in answers.items()}


@pytest.mark.slow
def test_answers_say_that_they_may_be_old(hub: Here, between: Front, there: There) -> None:
    """As long as the upstream fails, and no longer."""
    there.put("team/seen", IMAGE, "1")
    there.put("team/seen", REFERRER, str(REFERRER.digest))
    listed = builders.index_of(builders.descriptor(REFERRER.media_type, REFERRER.manifest))
    there.put_manifest("team/seen", f"sha256-{IMAGE.digest.hex}", listed, media_types.OCI_INDEX)
    assert set(warnings_of(hub).values()) == {None}
    hub.again()  # it remembers no list
    between.answer = lambda _path, _said: 0
    for _ in range(2):
        for path, warning in warnings_of(hub).items():
            assert (warning or "").startswith('110 - "Response is Stale: the upstream registry'), path
    between.answer = lambda _path, _said: None
    assert until(lambda: set(warnings_of(hub).values()) == {None})


def test_referrers_of_what_is_here(hub: Here, between: Front, there: There) -> None:
    """If none is here, the list is empty, and says that it may lack some; else the error is passed on."""
    there.put("team/plain", IMAGE, "1")
    hub.pull("hub/team/plain", IMAGE, "1")
    between.answer = lambda _path, _said: 500
    answer = hub.get(f"hub/team/plain/referrers/{IMAGE.digest}")
    assert (answer.status_code, answer.get_json()["manifests"]) == (200, [])
    assert answer.headers["Warning"].startswith('110 - "Response is Stale: the upstream registry')
    assert hub.get(f"hub/team/plain/referrers/{OTHER.digest}").status_code == 500
    with pytest.raises(UpstreamFailed):  # nor is an export complete, or an image without a signature
        [*hub.registry.referrers.all(RepositoryName("hub/team/plain"), IMAGE.digest)]
    between.answer = lambda _path, _said: None
    assert until(lambda: "Warning" not in hub.get(f"hub/team/plain/referrers/{IMAGE.digest}").headers)


def test_an_answer_that_waits_says_that_it_may_be_old(
    hub: Here, between: Front, there: There, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its head, which is sent before the layers are ready."""
    opened = threading.Event()

    def held(chunks: Iterable[bytes], *updates: Any) -> Iterator[bytes]:
        assert opened.wait(30)
        yield from regzip(chunks, *updates)

    monkeypatch.setattr(transcoding, "regzip", held)
    monkeypatch.setattr(late, "_LOOK", 0.05)
    image = builders.zstd_image(builders.layer({"a": b"a" * 900}))
    there.put("team/zstd", image, "1")
    hub.pull("hub/team/zstd", image, "1")
    between.answer = lambda _path, _said: 0
    registry = Registry.build(hub.registry.state, Rules(transcoding_patience=0.05))
    client = client_of(registry, hub.settings)
    begun = client.get("/v2/hub/team/zstd/manifests/1", headers=DOCKER_20_10)
    assert "Docker-Content-Digest" not in begun.headers
    assert begun.headers["Warning"].startswith('110 - "Response is Stale: the upstream registry')
    opened.set()
    assert b"tar+gzip" in begun.data
    registry.transcoding.close()
