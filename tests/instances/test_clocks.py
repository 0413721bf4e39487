"""Instances whose clocks are a minute ahead and a minute behind: nothing changes."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.database import Catalog
from dualreg.image.digest import Digest
from tests import builders
from tests.auth.conftest import PASSWORD, basic, bearer
from tests.instances.fleet import Fleet, fleet, shared_storage
from tests.programs import DUALREG, running, until
from tests.protocol.clients.v1 import V1Client
from tests.protocol.clients.wire import Answer, Wire

pytestmark = [pytest.mark.postgres, pytest.mark.client, pytest.mark.slow]

#: What runs a command of ours by a clock that is wrong by so many seconds.
CLOCK = (f"{DUALREG.with_name('by-clock')}",)
NOTHING = "Deleted 0 idle uploads and 0 blobs (0 bytes)."
SCOPE = "repository:team/app:pull,push,delete"
#: What a busy machine may take, far from a minute.
NEAR = timedelta(seconds=20)


@pytest.fixture(scope="module")
def skewed(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three instances, with limits that leave no room for differences of clocks."""
    folder = tmp_path_factory.mktemp("skewed")
    tight = {"auth": "accounts", "token_leeway": "0s", "gc_grace": "100s", "upload_ttl": "100s", "audit": ""}
    clocks = ((), (*CLOCK, "60"), (*CLOCK, "-60"))
    with (
        shared_storage("folder", folder) as settings,
        fleet(folder, certificate, settings | tight | {"x_accel_prefix": ""}, wrappers=clocks) as made,
        closing(Catalog(str(settings["database"]))) as catalog,
    ):
        accounts = Accounts(catalog, Passwords(rounds=4))
        accounts.add("alice", PASSWORD)
        accounts.grant("alice", "team/*", "pull,push,delete")
        yield made


def ask(host: str, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Answer:
    """Send a request to one instance; it succeeds."""
    answer = Wire(host).send(method, path, headers, body)
    assert answer.status < 300, (answer.status, answer.body)
    return answer


def token(host: str, credentials: dict[str, str]) -> dict[str, str]:
    """Return the header of a token that an instance issues."""
    issued = json.loads(ask(host, "GET", f"/token?service=dualreg&scope={SCOPE}", credentials).body)
    assert abs(datetime.fromisoformat(issued["issued_at"]) - datetime.now(UTC)) < NEAR
    return bearer(issued["token"])


def test_tokens_of_one_are_valid_at_all(skewed: Fleet) -> None:
    """From the moment at which they are issued, and those of V1 sessions too."""
    for issuer in skewed.instances:
        headers = token(issuer.host, basic("alice"))
        for instance in skewed.instances:
            ask(instance.host, "GET", "/v2/", headers)
    chain = builders.v1_chain(builders.layer({"a": b"1"}))
    V1Client(skewed.host, "alice", password=PASSWORD).push("team/old", "1", chain)
    pulled = V1Client(skewed.host, "alice", password=PASSWORD).pull("team/old", "1")
    assert [each.layer for each in pulled] == [chain[0].layer]


def test_keys_end_at_the_same_time(skewed: Fleet) -> None:
    """Everywhere."""
    with closing(Catalog(str(skewed.settings["database"]))) as catalog:
        accounts = Accounts(catalog, Passwords())
        short = accounts.add_key("alice", limits="", note="", lifetime=timedelta(seconds=30))
        ended = accounts.add_key("alice", limits="", note="", lifetime=timedelta(seconds=0))
    for instance in skewed.instances:
        query = f"/token?service=dualreg&scope={SCOPE}"
        assert Wire(instance.host).send("GET", query, basic("alice", short.text)).status == 200
        assert Wire(instance.host).send("GET", query, basic("alice", ended.text)).status == 401


def test_failed_logins_count_for_all(skewed: Fleet) -> None:
    """And the time until the next one is allowed is the same."""
    began, waits = time.monotonic(), []
    for number in range(12):
        instance = skewed.instances[number % 3]
        answer = Wire(instance.host).send("GET", "/token", basic("mallory", f"{number}"))
        assert answer.status == (401 if number < 10 else 429)
        if number >= 10:
            waits.append(int(answer.headers["retry-after"]) + time.monotonic() - began)
    assert all(abs(timedelta(seconds=wait) - timedelta(minutes=15)) < NEAR for wait in waits)


def test_uploads_and_garbage_stay_as_long_as_they_should(skewed: Fleet) -> None:
    """Begun where the clock is behind, collected where it is ahead, and the other way round."""
    behind, ahead = skewed.instances[2].host, skewed.instances[1].host
    headers, blob = token(behind, basic("alice")), b"of no manifest"
    path = "/v2/team/app/blobs/uploads/"
    started = ask(behind, "POST", path, headers, b"").headers["location"]
    ask(behind, "POST", f"{path}?digest={Digest.of(blob)}", headers, blob)
    assert NOTHING in collect(skewed, "60")
    started = ask(ahead, "PATCH", started, headers, blob).headers["location"]
    assert NOTHING in collect(skewed, "60")
    finish = f"{started}{'&' if '?' in started else '?'}digest={Digest.of(blob)}"
    ask(behind, "PUT", finish, headers, b"")
    assert ask(ahead, "GET", f"/v2/team/app/blobs/{Digest.of(blob)}", headers).body == blob


def collect(skewed: Fleet, clock: str, *options: str) -> str:
    """Collect garbage by a clock; return what is printed."""
    log = skewed.folder / "gc.log"
    log.unlink(missing_ok=True)
    with running([*CLOCK, clock, DUALREG, "gc", *options], log, skewed.environment(1)) as process:
        assert until(lambda: process.poll() is not None, 60)
    assert process.returncode == 0, log.read_text()
    return log.read_text()


def test_no_garbage_is_collected_by_a_clock_that_is_far_off(skewed: Fleet) -> None:
    """Be it that of a machine or that of the database."""
    text = "no garbage is collected: the clocks of this machine and of the database differ by 86"
    assert text in collect(skewed, "86400", "--scheduled")
    assert collect(skewed, "60", "--scheduled") == ""


def test_times_are_those_of_the_database(skewed: Fleet) -> None:
    """Of tags, in the order in which they were pushed, and in all audit logs."""
    headers, image = token(skewed.host, basic("alice")), builders.image(builders.layer({"a": b"1"}))
    for digest, blob in image.blobs.items():
        ask(skewed.host, "POST", f"/v2/team/app/blobs/uploads/?digest={digest}", headers, blob)
    began = datetime.now(UTC)
    for number, instance in enumerate([*skewed.instances, *reversed(skewed.instances)]):
        put = headers | {"Content-Type": image.media_type}
        ask(instance.host, "PUT", f"/v2/team/app/manifests/t{number}", put, image.manifest)
    tags: list[dict[str, Any]] = json.loads(
        ask(skewed.host, "GET", "/v2/team/app/_dualreg/tags", headers).body
    )["tags"]
    times = [datetime.fromisoformat(each["pushed"]) for each in tags]
    assert [each["name"] for each in tags] == [f"t{number}" for number in range(6)]
    assert times == sorted(times)
    assert began - NEAR < times[0] <= times[-1] < datetime.now(UTC) + NEAR
    for number in range(3):
        log = skewed.folder / f"data{number}" / "audit.jsonl"
        last = json.loads(log.read_text().splitlines()[-1])["time"]
        assert abs(datetime.fromisoformat(last) - datetime.now(UTC)) < NEAR
