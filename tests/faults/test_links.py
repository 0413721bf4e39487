"""Link files say what the catalog says, also after a change that failed."""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from dualreg.catalog.commits import CommitUncertain
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry import Registry
from tests import builders
from tests.faults.faulty import Plan
from tests.faults.test_faults import CHAIN, IMAGE, Make, failing, in_places, look_v1, push_v1, push_v2
from tests.maintenance.world import known_rows, rebuilt_rows
from tests.protocol.exchange import REPOSITORY, TOKEN, payload_checksum, push_image
from tests.soak import short_or_long

__all__ = ["failing"]

OTHER = builders.image(builders.layer({"other": b"1"}), oci=True)
V2, V1 = f"/v2/{REPOSITORY}", f"/v1/repositories/{REPOSITORY}"


def _prepare(client: FlaskClient) -> None:
    """Push over both APIs, and have each generation see what the other pushed."""
    assert push_v1(client)
    assert push_v2(client)
    assert look_v1(client)
    push_image(client, REPOSITORY, OTHER, "other", "second")
    push_image(client, "other/repository", OTHER, "other")


def _put(client: FlaskClient) -> Any:
    body, media_type = OTHER.manifest + b"\n", OTHER.media_type
    return client.put(f"{V2}/manifests/latest", data=body, content_type=media_type)


def _push_another(client: FlaskClient) -> Any:
    """Push a V1 image up to the first answer that is no success, and return that, or the last one."""
    (image,) = builders.v1_chain(builders.layer({"another": b"1"}), seed="another")
    path = f"/v1/images/{image.id}"
    answer = client.put(f"{path}/json", data=image.json, headers=TOKEN)
    if answer.status_code == 200:
        answer = client.put(f"{path}/layer", data=image.layer, headers=TOKEN)
    if answer.status_code == 200:
        sums = {"X-Docker-Checksum-Payload": payload_checksum(image)}
        answer = client.put(f"{path}/checksum", headers=TOKEN | sums)
    return answer


CHANGES: dict[str, Callable[[FlaskClient], Any]] = {
    "a new manifest under a tag that exists": _put,
    "a known manifest under a tag that exists": lambda client: client.put(
        f"{V2}/manifests/latest", data=OTHER.manifest, content_type=OTHER.media_type
    ),
    "a V1 image under a tag that exists": lambda client: client.put(
        f"{V1}/tags/other", json=CHAIN[-1].id, headers=TOKEN
    ),
    "the base of a V1 image under a new tag": lambda client: client.put(
        f"{V1}/tags/base", json=CHAIN[0].id, headers=TOKEN
    ),
    "another V1 image": _push_another,
    "a blob": lambda client: client.post(f"{V2}/blobs/uploads/?digest={Digest.of(b'x')}", data=b"x"),
    "a mount": lambda client: client.post(
        f"/v2/other/new/blobs/uploads/?mount={Digest.of(OTHER.config)}&from={REPOSITORY}"
    ),
    "deleting a tag": lambda client: client.delete(f"{V2}/manifests/latest"),
    "deleting a V1 tag": lambda client: client.delete(f"{V1}/tags/other", headers=TOKEN),
    "deleting all V1 tags": lambda client: client.delete(f"{V1}/tags", headers=TOKEN),
    "deleting a manifest with its views": lambda client: client.delete(f"{V2}/manifests/{IMAGE.digest}"),
    "deleting a manifest": lambda client: client.delete(f"{V2}/manifests/{OTHER.digest}"),
    "deleting a repository": lambda client: client.delete(f"{V2}/_dualreg/repository"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "change"),
    in_places(CHANGES, ["deleting a V1 tag", "deleting a manifest with its views", "deleting a repository"]),
    indirect=["failing"],
)
def test_a_failed_change_leaves_the_links_as_they_were(
    failing: Make, tmp_path: Path, change: str, request: pytest.FixtureRequest
) -> None:
    """Whichever call to catalog or store fails: a rebuild gives what the catalog has."""
    act = CHANGES[change]
    client, registry, plan = failing(Plan())
    _prepare(client)
    start = plan.calls
    act(client)
    steps, failures = plan.calls - start, 0
    stride = short_or_long(steps // 2, 1) if "bucket" in request.node.callspec.id else 1
    tried = range(steps - 1, -1, -stride)  # the last one is in the transaction
    for step in tried:
        client, registry, plan = failing(Plan())
        _prepare(client)
        plan.calls, plan.fail_at = 0, step
        failures += getattr(act(client), "status_code", 500) >= 500
        plan.fail_at = None
        _check_links(registry, tmp_path, f"after a fault at call {step}")
    assert failures >= len(tried) // 2


@pytest.mark.sqlite
@pytest.mark.parametrize("change", CHANGES)
def test_a_commit_that_the_disk_does_not_take(
    failing: Make, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is asked to try again; link files say what was committed, and then all goes on."""
    act = CHANGES[change]
    client, registry, _ = failing(Plan())
    _prepare(client)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        answer = act(client)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
    assert client.post(f"{V2}/blobs/uploads/").status_code == 202
    _check_links(registry, tmp_path)


@pytest.mark.parametrize("change", CHANGES)
def test_an_interrupted_wait_for_the_disk(
    failing: Make, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever it is of those after a commit: link files say what was committed."""
    client, registry, _ = failing(Plan())
    _prepare(client)
    for number in range(20):
        waits = itertools.count()

        def wait(waits: Iterator[int] = waits, number: int = number) -> None:
            if next(waits) == number:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(registry.state.catalog, "settle", wait)
            try:
                CHANGES[change](client)
                break
            except KeyboardInterrupt:
                _check_links(registry, tmp_path, f"after wait {number}")
    assert 0 < number < 19


@pytest.mark.parametrize("failure", [KeyboardInterrupt, CommitUncertain])
def test_a_failure_before_the_commit(failing: Make, tmp_path: Path, failure: type[BaseException]) -> None:
    """Link files are as they were, also if a wait for an earlier commit failed."""
    client, registry, _ = failing(Plan())
    _prepare(client)
    repository, tag = RepositoryName(REPOSITORY), Tag("latest")

    def interrupted() -> None:
        with registry.state.begin() as tx:
            row = tx.repositories.find(repository)
            assert row
            tx.tags.remove(row.id, tag)
            registry.state.links.remove_tags(repository, tag)
            raise failure

    with pytest.raises(failure):
        interrupted()
    assert registry.manifests.peek(repository, tag)
    _check_links(registry, tmp_path)


def _check_links(registry: Registry, folder: Path, when: str = "") -> None:
    """Check that the catalog which is made in *folder* of the link files equals the one in use."""
    rebuilt = rebuilt_rows(registry.state.store, folder)  # type: ignore[arg-type]  # it is one
    assert _rows(known_rows(registry.state.catalog)) == _rows(rebuilt), when


def _rows(known: dict[str, Any]) -> dict[str, Any]:
    """Return rows without blobs: bytes that are published before a failed commit have none."""
    return {name: rows for name, rows in known.items() if name not in ("blobs", "signing_keys")}
