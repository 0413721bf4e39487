"""World: a registry that has something to show on every page, and the addresses of these pages."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dualreg.acting import Api, acting
from dualreg.assembly import open_registry, prepare
from dualreg.auth.accounts import Accounts
from dualreg.auth.passwords import Passwords
from dualreg.catalog.growth import GrowthQueries
from dualreg.catalog.rows import ClientRow
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.image.names import ImageId, RepositoryName, Tag
from dualreg.migrate.journal import Journal
from dualreg.registry import Registry
from dualreg.settings import Settings
from dualreg.web.app import create_app
from dualreg.webhooks.mark import mark
from tests import builders, signers
from tests.auth.conftest import Guarded
from tests.builders import Image, V1Pushed
from tests.programs import DUALREG, dualreg_process
from tests.properties.registries import push_v1, push_v2
from tests.ui.conftest import APP, HOOK, IMAGES, fill
from tests.ui.test_pages import PAGES
from tests.webhooks.receiver import Receiver, receiving

SHOP, BILLING = RepositoryName("shop/frontend"), RepositoryName("legacy/billing")
#: Other repositories, for the lists.
_OTHERS = ("legacy/reports", "platform/base", "platform/postgres", "shop/api", "shop/worker", "tools/ci")
#: Repositories whose tags tests move and delete, with scripts and without; each has ``moved``, with two
#: moves, and ``doomed``.
CHANGED = {True: RepositoryName("team/docs"), False: RepositoryName("team/site")}
#: How the image of the shop is built; empty: the step makes no files.
_STEPS: Sequence[tuple[str, int]] = (
    ("ADD rootfs.tar.xz / # buildkit", 28),
    ("RUN /bin/sh -c apk add --no-cache ca-certificates tzdata nodejs # buildkit", 17),
    ("WORKDIR /srv/frontend", 0),
    ("COPY package.json package-lock.json ./ # buildkit", 1),
    ("RUN /bin/sh -c npm ci --omit=dev # buildkit", 42),
    ("COPY dist ./dist # buildkit", 3),
    ('ENTRYPOINT ["node" "dist/server.js"]', 0),
)
#: How an old docker built the image of the billing.
_V1_STEPS = (
    "#(nop) ADD file:0f1c4d7a in /",
    "apt-get update && apt-get install -y openjdk-7-jre-headless",
    "#(nop) ENV JAVA_HOME=/usr/lib/jvm/java-7-openjdk-amd64",
    "#(nop) ADD billing.jar in /opt/billing/",
)
#: Dockers before 1.10: the release, and how many weeks ago its last client was seen.
_CLIENTS = (
    ("1.5.0", 0), ("1.5.0", 0), ("1.5.0", 1), ("1.3.2", 2), ("1.5.0", 3), ("1.4.1", 4), ("1.5.0", 4),
    ("1.2.0", 6), ("1.5.0", 7), ("0.9.1", 9), ("1.3.2", 9), ("1.5.0", 10),
)  # fmt: skip
_RELEASED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_KEY = signers.key_of("ecdsa")


@dataclass(frozen=True)
class World:
    """A registry that is served.

    Attributes:
        host: HOST:PORT.
        run: A run of a migration that has ended.
        receiver: What the webhook HOOK sends to.
    """

    host: str
    data: Path
    run: str
    receiver: Receiver

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.host}"

    @property
    def pages(self) -> Sequence[str]:
        """One address of each page that an administrator sees, that with the most on it."""
        found = {path.partition("?")[0]: path for path, (people, _) in PAGES.items() if "root" in people}
        named = (
            f"/ui/repositories?under={SHOP.partition('/')[0]}/",
            f"/ui/repository?repository={SHOP}",
            f"/ui/image?repository={SHOP}&reference=1.4.2",
            f"/ui/comparison?repository={SHOP}&reference=1.4.1&other=1.4.2",
            f"/ui/faces?repository={BILLING}&tag=2014.3",
            f"/ui/history?repository={SHOP}&tag=latest",
            f"/ui/tag/delete?repository={SHOP}&tag=latest",
            "/ui/formats",
            f"/ui/migrations/run?run={self.run}",
            f"/ui/webhook?name={HOOK}&dead=1",
            "/ui/audit",
        )
        return [*(found | {path.partition("?")[0]: path for path in named}).values(), "/ui/repositories"]


@contextmanager
def served(folder: Path, *, unit: int = 100) -> Iterator[World]:
    """Make such a registry below *folder*, and serve it for the block.

    Args:
        unit: Bytes of a layer that others are multiples of.
    """
    data = folder / "data"
    settings = Settings.model_validate({"data": data, "auth": "accounts", "audit": "off"})
    prepare(settings)
    with receiving() as receiver:
        with closing(open_registry(settings)) as registry:
            run = _fill(registry, settings, receiver.url, unit)
        mark(data)  # so that the delivery is started at once
        chosen: dict[str, str | int] = {"auth": "accounts", "webhook_networks": "127.0.0.1"}
        wrapper = [DUALREG.with_name("webhook-server")]  # whose delivery starts in time on a busy machine
        with dualreg_process(
            data, wrapper=wrapper, workers=1, fsck_rate=0, gc_interval="0s", **chosen
        ) as serving:
            yield World(serving.host, data, run, receiver)


def accounts_of(registry: Registry) -> Accounts:
    """Return the accounts, whose passwords are hashed in a millisecond."""
    return Accounts(registry.state.catalog, Passwords(rounds=4))


def _fill(registry: Registry, settings: Settings, hook: str, unit: int) -> str:
    """Push images, let clients be seen and events be given up; return the run of a migration."""
    client = create_app(settings, registry).test_client()
    own = Guarded(client, accounts_of(registry), registry, settings)
    fill(own)
    own.accounts.join("admins", "root")
    own.accounts.add_key("writer", limits="", note="nightly build")
    with acting("writer", Api.V2):
        _push_shop(registry, unit)
        for name in _OTHERS:
            push_v2(registry, RepositoryName(name), Tag("latest"), _image(name, unit))
        for repository in CHANGED.values():
            for tag, image in (("moved", IMAGES[0]), ("moved", IMAGES[1]), ("doomed", IMAGES[0])):
                push_v2(registry, repository, Tag(tag), image)
    with acting("writer", Api.V1):
        push_v1(registry, BILLING, Tag("2014.3"), _chain(unit), chunk=1 << 20)
    _see_clients(registry)
    _grow(registry)
    _give_up_events(registry, hook)
    return _migrate(settings)


def _bytes(name: str, number: int) -> bytes:
    """Return bytes that cannot be compressed, always the same."""
    return hashlib.shake_256(name.encode()).digest(number)


def _image(version: str, unit: int) -> Image:
    """Return an image as buildkit makes it; the last layers are those of the version."""
    layers, history = list[bytes](), list[dict[str, Any]]()
    for place, (command, size) in enumerate(_STEPS):
        step = {"created": f"{_RELEASED:%Y-%m-%dT%H:%M:%SZ}", "created_by": command}
        history.append(step if size else step | {"empty_layer": True})
        if size:
            name = f"{place}" if place < 4 else f"{place} of {version}"
            layers.append(builders.layer({f"layer-{place}": _bytes(name, size * unit)}))
    config = {
        "Entrypoint": ["node", "dist/server.js"],
        "WorkingDir": "/srv/frontend",
        "User": "node",
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "NODE_ENV=production"],
        "ExposedPorts": {"8080/tcp": {}},
        "Labels": {
            "org.opencontainers.image.title": "Frontend of the shop",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.source": "https://git.example/shop/frontend",
        },
    }
    created = f"{_RELEASED:%Y-%m-%dT%H:%M:%SZ}"
    return builders.image(*layers, oci=True, history=history, config=config, created=created)


def _push_shop(registry: Registry, unit: int) -> None:
    """Push two versions, the second for two platforms, with a signature and a bill of materials."""
    push_v2(registry, SHOP, Tag("1.4.1"), _image("1.4.1", unit))
    push_v2(registry, SHOP, Tag("latest"), _image("1.4.1", unit))
    images = [_image("1.4.2", unit), _image("1.4.2 arm64", unit)]
    for image in images:
        for digest, blob in image.blobs.items():
            registry.uploads.ingest(SHOP, [blob], expected=digest)
        registry.manifests.put(SHOP, image.digest, image.media_type, image.manifest)
    index = builders.index(*images)
    for tag in ("1.4.2", "1.4", "latest"):
        registry.manifests.put(SHOP, Tag(tag), media_types.OCI_INDEX, index)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "components": [{"name": "node"}, {"name": "zlib"}],
    }
    kind = "application/vnd.cyclonedx+json"
    pushed = Image(media_types.OCI_INDEX, index, b"", ())
    signers.push(registry, SHOP, signers.referrer(pushed, kind, kind, json.dumps(bill).encode()))
    signers.push(registry, SHOP, signers.cosign_signature(pushed, _KEY))


def _chain(unit: int) -> Sequence[V1Pushed]:
    """Return a chain of V1 images as an old docker makes it."""
    chain = list[V1Pushed]()
    for number, command in enumerate(_V1_STEPS):
        files = {} if "ENV" in command else {f"file-{number}": _bytes(command, (30, 25, 0, 8)[number] * unit)}
        layer = builders.layer(files)
        document = {
            "id": Digest.of(command.encode()).hex,
            "created": f"2014-03-0{number + 1}T08:12:44.102Z",
            "container_config": {"Cmd": ["/bin/sh", "-c", command]},
            "docker_version": "1.5.0",
            "config": {"Cmd": ["java", "-jar", "/opt/billing/billing.jar"]},
            "architecture": "amd64",
            "os": "linux",
            "Size": len(layer),
            **({"parent": chain[-1].id} if chain else {}),
        }
        chain.append(V1Pushed(ImageId(document["id"]), json.dumps(document).encode(), layer))
    return chain


def _see_clients(registry: Registry) -> None:
    """Let fewer V1 clients be seen from week to week."""
    with registry.state.catalog.begin() as tx:
        began = tx.now - timedelta(weeks=11)
        tx.clients.record(
            ClientRow(
                f"192.0.2.{number + 10}",
                f"docker/{release}",
                BILLING if number % 3 else "legacy/reports",
                began,
                tx.now - timedelta(weeks=weeks, hours=number),
                40 * (12 - weeks) + number,
                0,
            )
            for number, (release, weeks) in enumerate(_CLIENTS)
        )


def _grow(registry: Registry) -> None:
    """Note what was pulled and stored in the last weeks: more, and less on Sundays."""
    with registry.state.catalog.begin() as tx:
        growth = GrowthQueries(tx.connection, tx.now)
        stored = growth.look()
        for ago in range(40, 0, -1):
            then = tx.now - timedelta(days=ago)
            pulls = 40 + 3 * (40 - ago) if then.isoweekday() < 7 else 9
            growth.count({then.date(): pulls}, {then.date(): pulls // 9})
            content = stored.content_bytes * (60 - ago) // 60
            replace(growth, now=then).note(replace(stored, content_bytes=content))


def _give_up_events(registry: Registry, url: str) -> None:
    """Add a webhook that has given up the events of two repositories."""
    registry.webhooks.add(WebhookRow(HOOK, url, "cloudevents", (APP, SHOP), ("push",)))
    with registry.state.catalog.read() as tx:
        now = tx.now
    registry.webhooks.replay(HOOK, since=now - timedelta(days=1))
    with registry.state.catalog.begin() as tx:
        tx.webhooks.outbox.give_up(HOOK, None, tx.now, "the receiver answered with 503")


def _migrate(settings: Settings) -> str:
    """Write the journal of a run that has left something out; return its name."""
    writing = Journal(settings.journals, _RELEASED, "v1-tree:/srv/old-registry")
    writing.write_all("tag", [tag_line(number) for number in range(120)])
    missing = "no-layer: the layer of image 3f1b0c is not there"
    writing.write_all("tag", [tag_line(number, "failed", missing) for number in range(200, 204)])
    partial = "partial: an unfinished push"
    writing.write_all("tag", [tag_line(number, "skipped", partial) for number in range(300, 302)])
    writing.write("end", stopped=False)
    return writing.path.stem


def tag_line(number: int, status: str = "done", reason: str = "") -> dict[str, object]:
    """Return what a journal says of a tag."""
    name = f"legacy/service-{number // 10}"
    facts = {"source": f"{name}:v{number}", "repository": name, "tag": f"v{number}", "image": ""}
    digest = str(Digest.of(b"%d" % number)) if status == "done" else ""
    return facts | {"status": status, "digest": digest, "bytes": 40_000_000, "reason": reason}
