"""Clients that push, move and delete all the time, over both APIs, and know what a copy may contain."""

import json
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dualreg.assembly import open_registry, prepare
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.settings import Settings
from tests import builders
from tests.apps import client_of
from tests.cuts.client import V1, V2, InProcess, Pusher
from tests.cuts.promises import Facts, Key, Notes, Value
from tests.faults.faulty import check_sound
from tests.programs import until
from tests.protocol.clients.wire import Wire, need

#: The values that each promise may have.
Allowed = dict[Key, set[Value]]
#: Seconds that clients work before a window opens.
_START = 0.3


class History(Notes):
    """What clients have asked for, and what was answered; each key belongs to one client.

    Attributes:
        working: Set while clients work.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.working = threading.Event()
        self._allowed: Allowed = {}
        self._windows: list[Allowed] = []
        self._acting = 0
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, facts: Facts) -> Iterator[None]:
        """Ask for *facts* in the block; when it ends, they were answered for."""
        with self._lock:
            for key, value in facts.items():
                known = self._allowed.setdefault(key, {None})
                known.add(value)
                for window in self._windows:
                    window.setdefault(key, {None}).add(value)
        yield
        with self._lock:
            self._allowed |= {key: {value} for key, value in facts.items()}

    @contextmanager
    def acting(self) -> Iterator[bool]:
        """Yield whether a client may work now, which it does in the block."""
        with self._lock:
            self._acting += 1
        try:
            yield self.working.is_set()
        finally:
            with self._lock:
                self._acting -= 1

    def rest(self) -> None:
        """Wait, after a window, until no client works any more."""
        assert until(lambda: not self._acting, 60)

    def now(self) -> Allowed:
        """Return what may be found now."""
        with self._lock:
            return {key: {*values} for key, values in self._allowed.items()}

    def of(self, repository: str) -> list[Key]:
        """Return what is known of a repository."""
        with self._lock:
            return [key for key in self._allowed if key[1] == repository]

    @contextmanager
    def window(self) -> Iterator[Allowed]:
        """Have clients work during the block; yield what may be found by looking at any time during it."""
        self.working.set()
        time.sleep(_START)
        with self._lock:
            found = {key: {*values} for key, values in self._allowed.items()}
            self._windows.append(found)
        try:
            yield found
        finally:
            self.working.clear()
            with self._lock:
                self._windows = [each for each in self._windows if each is not found]


class _Client(threading.Thread):
    """One client, in two repositories that are its own."""

    def __init__(self, host: str, number: int, history: History, stop: threading.Event) -> None:
        super().__init__()
        self.failure: BaseException | None = None
        self.rounds = 0
        self._pusher = Pusher(Wire(host), history)
        self._history, self._stop_event = history, stop
        self._random = random.Random(number)  # noqa: S311 -- what is pushed is no secret
        self._name, self._old = f"load/{number}", f"old/{number}"
        self._pushed: list[builders.Image] = []

    def run(self) -> None:
        """Work until it is stopped."""
        try:
            while not self._stop_event.is_set():
                with self._history.acting() as may_act:
                    if may_act:
                        self._act()
                        self.rounds += 1
                if not may_act:
                    self._history.working.wait(0.05)
        except BaseException as error:  # noqa: BLE001 -- raised by the thread that waits
            self.failure = error

    def _act(self) -> None:
        acts = [self._push, self._push, self._index, self._push_v1, self._delete_tag, self._delete_manifest]
        self._random.choice([*acts, self._delete_repository] if self.rounds % 9 == 0 else acts)()

    def _push(self) -> None:
        base = builders.layer({"base": b"%d" % self._random.randrange(4)})
        image = builders.image(base, builders.layer({"own": os.urandom(40)}), oci=self._random.random() < 0.5)
        self._pushed = [*self._pushed[-3:], image]
        self._pusher.push(self._name, "latest", image)
        self._pusher.tag(self._name, f"t{self._random.randrange(5)}", image)

    def _index(self) -> None:
        """Push an index of two new images, which have no tags."""
        images = [builders.image(builders.layer({"own": os.urandom(40)})) for _ in range(2)]
        for image in images:
            self._pusher.push(self._name, str(image.digest), image)
        index = builders.index(*images)
        headers = {"Content-Type": media_types.OCI_INDEX}
        digest = str(Digest.of(index))
        facts: Facts = {("tag", self._name, "index"): digest, ("manifest", self._name, digest): digest}
        with self._pusher.asking(facts):
            path = f"/v2/{self._name}/manifests/index"
            need(self._pusher.wire.send("PUT", path, headers, index), 201, "PUT index")

    def _push_v1(self) -> None:
        chain = builders.v1_chain(
            builders.layer({"base": b"v1"}), builders.layer({"own": os.urandom(40)}), seed=os.urandom(8).hex()
        )
        self._pusher.push_v1(self._old, self._random.choice(("latest", "two")), chain)

    def _delete_tag(self) -> None:
        tag = f"t{self._random.randrange(5)}"
        self._pusher.delete(f"/v2/{self._name}/manifests/{tag}", {("tag", self._name, tag): None})
        self._pusher.delete(f"/v1/repositories/{self._old}/tags/two", {("v1", self._old, "two"): None})

    def _delete_manifest(self) -> None:
        """Delete an image by its digest, with all its tags."""
        if not self._pushed:
            return
        digest = str(self._pushed.pop(0).digest)
        tags = ("latest", *(f"t{number}" for number in range(5)))
        found = {tag: self._pusher.wire.send("HEAD", f"/v2/{self._name}/manifests/{tag}") for tag in tags}
        gone: Facts = {("manifest", self._name, digest): None}
        for tag, answer in found.items():
            if answer.headers.get("docker-content-digest") == digest:
                gone[("tag", self._name, tag)] = None
        self._pusher.delete(f"/v2/{self._name}/manifests/{digest}", gone)

    def _delete_repository(self) -> None:
        self._pushed = []
        gone: Facts = dict.fromkeys(self._history.of(self._name))
        self._pusher.delete(f"/v2/{self._name}/_dualreg/repository", gone)


@contextmanager
def load(host: str, clients: int = 3) -> Iterator[History]:
    """Have clients that work in the windows of the history; each has pushed something before the block."""
    history, stop = History(), threading.Event()
    history.working.set()
    workers = [_Client(host, number, history, stop) for number in range(clients)]
    for worker in workers:
        worker.start()
    try:
        assert until(lambda: all(each.rounds > 5 or each.failure for each in workers), 120)
        history.working.clear()
        yield history
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    for failure in filter(None, (worker.failure for worker in workers)):
        raise failure


def found_in(data: Path, keys: Iterator[Key] | Sequence[Key], **chosen: str) -> dict[Key, Value]:
    """Open the registry in *data*, check that it is sound, and return what a client finds of *keys*.

    Other settings may be *chosen*. Images are pulled and verified, over V1 too.

    Raises:
        ProtocolError, AssertionError: an image cannot be pulled, or is not what it should be.
    """
    settings = Settings(data=data, audit="off", **chosen)
    prepare(settings)
    registry = open_registry(settings)
    try:
        check_sound(registry)
        wire = InProcess(client_of(registry, settings))
        return {key: _find(wire, *key) for key in keys}
    finally:
        registry.close()


def _find(wire: Wire, kind: str, name: str, reference: str) -> Value:
    if kind == "v1":
        answer = wire.send("GET", f"/v1/repositories/{name}/tags/{reference}")
        if answer.status == 404:
            return None
        over_v1, over_v2 = V1(wire).pull(name, reference), V2(wire).pull(name, reference)
        assert [image.layer for image in over_v1] == over_v2.layers
        return over_v1[-1].id
    if kind == "blob":
        answer = wire.send("GET", f"/v2/{name}/blobs/{reference}")
        return None if answer.status == 404 else str(Digest.of(answer.body))
    client = V2(wire)
    if client.find_manifest(name, reference).status == 404:
        return None
    media_type, payload = client.pull_manifest(name, reference)
    document = json.loads(payload)
    if media_type in media_types.INDEXES:
        for child in document["manifests"]:
            assert _find(wire, "manifest", name, child["digest"])
    else:
        for entry in (document["config"], *document["layers"]):
            client.pull_blob(name, entry)
    return str(Digest.of(payload))
