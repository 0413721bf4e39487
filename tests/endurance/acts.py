"""What clients do, each thing with its share."""

import json
from collections.abc import Callable, Mapping

from dualreg.image.digest import Digest
from tests.endurance.client import Client
from tests.endurance.contents import V2Image, WrongBytes, same
from tests.endurance.wire import Interrupted
from tests.protocol.clients.wire import Refused, need

#: Something that a client does, beside the others.
Act = Callable[[Client, list[Client]], None]
_LARGE = 400_000


def push_v2(client: Client, _: list[Client]) -> None:
    """Push an image over V2."""
    client.put(*client.place(), V2Image(client.make.image()))


def push_v1(client: Client, _: list[Client]) -> None:
    """Push an image over V1."""
    client.put(*client.place(), client.make.chain())


def push_index(client: Client, _: list[Client]) -> None:
    """Push an index and its images."""
    repository, tag = client.place()
    content = client.make.index()
    client.indexed |= {(repository, image.digest) for image in content.images}
    client.put(repository, tag, content)


def push_referrer(client: Client, _: list[Client]) -> None:
    """Push an artifact about an image that is tagged."""
    if key := client.some_tag(V2Image):
        repository, subject = key[0], client.tags[key].image  # type: ignore[attr-defined]
        artifact = client.make.about(subject)
        client.persist(lambda: client.v2.push(repository, str(artifact.digest), artifact))
        client.about[repository, subject.digest].add(artifact.digest)


def move(client: Client, _: list[Client]) -> None:
    """Point another tag of the repository at what a tag names."""
    if key := client.some_tag():
        client.put(key[0], client.place()[1], client.tags[key])


def mount(client: Client, _: list[Client]) -> None:
    """Push an image to another repository, without sending its blobs."""
    if key := client.some_tag(V2Image):
        (target, tag), content = client.place(), client.tags[key]
        blobs = content.image.blobs  # type: ignore[attr-defined]

        def mount_all() -> None:
            for digest in blobs:
                path = f"/v2/{target}/blobs/uploads/?mount={digest}&from={key[0]}"
                need(client.wire.send("POST", path, {}, b""), 201, f"mount from {key[0]} to {target}")

        client.put(target, tag, content, before=mount_all)


def resume(client: Client, _: list[Client]) -> None:
    """Upload a blob in parts, going on from where a killed process left it; then delete it, or leave it."""
    repository, data = client.place()[0], client.make.bytes(_LARGE)
    digest, path, offset = Digest.of(data), client.persist(lambda: client.v2.start_upload(repository)), 0
    while offset < len(data):
        end = min(len(data), offset + max(1, len(data) // 3))
        try:
            need(client.wire.send("PATCH", path, {}, data[offset:end]), 202, "PATCH")
            offset = end
        except Interrupted:
            client.tally.retried += 1
            held = client.ask("GET", path)
            need(held, 204, "GET upload")
            first, _, last = held.headers["range"].partition("-")
            durable = 0 if (first, last) == ("0", "0") else int(last) + 1
            if not offset <= durable <= end:
                raise AssertionError(f"{offset} bytes were acknowledged, {durable} are held") from None
            offset = durable
    need(client.ask("PUT", f"{path}?digest={digest}"), 201, "PUT blob")
    blob = f"/v2/{repository}/blobs/{digest}"
    answer = client.ask("GET", blob)
    need(answer, 200, "GET blob")
    same(answer.body, data, blob)
    if client.chance.random() < 0.5:
        need(client.ask("DELETE", blob), (202, 404), "DELETE blob")
        need(client.ask("HEAD", blob), 404, "HEAD of a blob that was deleted")


def delete_tag(client: Client, _: list[Client]) -> None:
    """Delete a tag over either API."""
    if key := client.some_tag():
        repository, tag = key
        v1, v2 = f"/v1/repositories/{repository}/tags/{tag}", f"/v2/{repository}/manifests/{tag}"
        need(client.ask("DELETE", client.chance.choice((v1, v2))), (200, 202, 404), "DELETE tag")
        client.forget(key)
        need(client.ask("HEAD", v2), 404, f"HEAD of {repository}:{tag}, which was deleted")


def delete_manifest(client: Client, _: list[Client]) -> None:
    """Delete a manifest by digest, with its tags, unless an index has it."""
    if key := client.some_tag(V2Image):
        repository, image = key[0], client.tags[key].image  # type: ignore[attr-defined]
        path = f"/v2/{repository}/manifests/{image.digest}"
        answer = client.ask("DELETE", path)
        if answer.status == 405 and (repository, image.digest) in client.indexed:
            return
        need(answer, (202, 404), "DELETE manifest")
        gone = [
            each
            for each, content in client.tags.items()
            if each[0] == repository and isinstance(content, V2Image) and content.image.digest == image.digest
        ]
        client.forget(*gone)
        need(client.ask("HEAD", path), 404, f"HEAD of {image.digest}, which was deleted")


def delete_repository(client: Client, _: list[Client]) -> None:
    """Delete a repository, or all its tags."""
    repository = client.place()[0]
    paths = f"/v1/repositories/{repository}/", f"/v2/{repository}/_dualreg/repository"
    need(client.ask("DELETE", client.chance.choice(paths)), (200, 202, 404), "DELETE repository")
    client.forget(*((repository, tag) for tag in client.tags_of(repository)))


def read(client: Client, _: list[Client]) -> None:
    """Pull an image of its own over either API."""
    if everything := client.tags | client.kept:
        key = client.chance.choice([*everything])
        content = everything[key]
        if client.chance.random() < 0.5:
            client.persist(lambda: content.read_v1(client.v1, *key))
        else:
            client.persist(lambda: content.read_v2(client.v2, *key))


def read_other(client: Client, others: list[Client]) -> None:
    """Pull an image of another client, which may be changing it."""
    owner = client.chance.choice(others)
    before, tags = owner.changes, dict(owner.tags)
    if not tags:
        return
    key = client.chance.choice([*tags])
    try:
        client.persist(lambda: tags[key].read_v2(client.v2, *key))
    except (Refused, WrongBytes):
        if before == owner.changes and not before % 2:
            raise


def list_tags(client: Client, _: list[Client]) -> None:
    """List the tags of a repository over both APIs, and the referrers of an image."""
    repository = client.chance.choice(client.repositories)
    for path in f"/v2/{repository}/tags/list", f"/v1/repositories/{repository}/tags":
        answer = client.ask("GET", path)
        need(answer, (200, 404), path)
        listed = json.loads(answer.body) if answer.status == 200 else []
        names = (listed["tags"] or []) if "tags" in listed and path.startswith("/v2") else listed
        same(sorted(names), client.tags_of(repository), path)
    for (name, subject), expected in [*client.about.items()][:1]:
        answer = client.ask("GET", f"/v2/{name}/referrers/{subject}")
        need(answer, 200, "GET referrers")
        found = {Digest.parse(entry["digest"]) for entry in json.loads(answer.body)["manifests"]}
        same(expected - found, set(), f"referrers of {name}@{subject}")


ACTS: Mapping[Act, int] = {
    push_v2: 6,
    push_v1: 5,
    push_index: 3,
    push_referrer: 2,
    move: 4,
    mount: 3,
    resume: 2,
    delete_tag: 4,
    delete_manifest: 2,
    delete_repository: 1,
    read: 16,
    read_other: 6,
    list_tags: 4,
}
#: What changes nothing.
LOOKS = frozenset({read, read_other, list_tags})
