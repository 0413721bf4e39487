"""Kills of a server whose bytes are in a bucket, at requests that it sends to the object store.

Its data folder and the bucket stay as they are; the next server goes on with them.
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from tests import builders
from tests.builders import Image, V1Pushed
from tests.contracts.s3_faults import Faults
from tests.cuts.check import check_promises
from tests.cuts.client import Pusher
from tests.cuts.promises import Facts, Key, Notes, Promises, Value
from tests.cuts.stories import CONTENT, LAYERS
from tests.programs import Serving, children, dualreg_process
from tests.protocol.clients.wire import ProtocolError, Wire

#: What a client sees of a server that is killed.
_BROKEN = (OSError, HTTPException, ProtocolError)
#: Whether the request at which a server is killed still reaches the object store.
SIDES = {"before": "lost request", "after": "lost answer"}


class _Remembered(Notes):
    """Keeps the notes of a client in memory."""

    def __init__(self, promises: Promises) -> None:
        """Tell *promises*."""
        self._promises = promises

    def _write(self, verb: str, facts: Facts) -> None:
        self._promises.note(json.dumps([verb, [[*key, value] for key, value in facts.items()]]).encode())


@dataclass
class Killing:
    """Kills a server at one of the requests that change a bucket.

    Attributes:
        place: At which of them.
        sent: How many were sent since the round began.
        killed: Whether it was killed.
    """

    faults: Faults
    place: int = 0
    sent: int = 0
    killed: bool = False
    serving: Serving | None = field(default=None, repr=False)

    def begin(self, serving: Serving, place: int, side: str) -> None:
        """Begin a round."""
        self.place, self.sent, self.killed, self.serving = place, 0, False, serving
        self.faults.wanted, self.faults.kind, self.faults.times = self._look, SIDES[side], 1 << 30

    def _look(self, method: str, path: str) -> bool:
        """Return whether this is the request; the server is dead then."""
        del path
        changes = method in ("PUT", "POST", "DELETE")
        self.sent += changes
        if self.killed or not changes or self.sent != self.place or self.serving is None:
            return False
        self.killed = True
        main = self.serving.process.pid
        for pid in (main, *children(main)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return True


@dataclass
class Rounds:
    """Rounds of pushes and deletes over one bucket, each with other content and another kill.

    Attributes:
        promised: What all of them have left.
    """

    data: Path
    settings: Mapping[str, str]
    killing: Killing
    promised: dict[Key, set[Value]] = field(default_factory=dict)

    @contextmanager
    def served(self) -> Iterator[Serving]:
        """Run a server for the block."""
        with dualreg_process(self.data, audit="off", workers=1, **self.settings) as serving:
            yield serving

    def run(self, number: int, place: int, side: str) -> bool:
        """Kill a server at a place; require what it had acknowledged, and do all of it again.

        Returns:
            Whether it was killed: the round may be over before.
        """
        promises = Promises()
        with self.served() as serving:
            self.killing.begin(serving, place, side)
            try:
                work(_pusher(serving, promises), number)
            except _BROKEN:
                if not self.killing.killed:
                    raise
            self.killing.serving = None
        with self.served() as serving:
            check_promises(Wire(serving.host), promises.allowed)
            promises = Promises()
            work(_pusher(serving, promises), number)
        self.promised |= promises.allowed
        return self.killing.killed

    def require(self) -> None:
        """Require all that is promised."""
        with self.served() as serving:
            check_promises(Wire(serving.host), self.promised)


def _pusher(serving: Serving, promises: Promises) -> Pusher:
    return Pusher(Wire(serving.host), _Remembered(promises))


def work(pusher: Pusher, number: int) -> None:
    """Push and tag over both APIs, delete all of it, each in its own way, and push again."""
    name, image, chain = f"bucket/n{number}", _image(number), _chain(number)
    digest, delete = str(image.digest), pusher.delete
    pusher.push(name, "1", image)
    pusher.tag(name, "2", image)
    pusher.push_v1(name, "old", chain)
    delete(f"/v2/{name}/manifests/1", {("tag", name, "1"): None})
    delete(f"/v1/repositories/{name}/tags/old", {("v1", name, "old"): None})
    delete(f"/v2/{name}/manifests/{digest}", {("manifest", name, digest): None, ("tag", name, "2"): None})
    for blob in image.blobs:
        delete(f"/v2/{name}/blobs/{blob}", {("blob", name, str(blob)): None})
    pusher.push(name, "1", image)
    gone: Facts = {("manifest", name, digest): None, ("tag", name, "1"): None}
    blobs: Facts = {("blob", name, str(blob)): None for blob in image.blobs}
    delete(f"/v2/{name}/_dualreg/repository", gone | blobs)
    pusher.push(name, "1", image)


def _image(number: int) -> Image:
    image = builders.image(builders.layer({"bucket": str(number).encode() * 3000}))
    CONTENT.update(image.blobs)
    return image


def _chain(number: int) -> list[V1Pushed]:
    layers = (builders.layer({"base": b"bucket"}), builders.layer({"bucket": b"1" * number}))
    chain = builders.v1_chain(*layers, seed=f"bucket {number}")
    LAYERS[chain[-1].id] = [image.layer for image in chain]
    return chain
