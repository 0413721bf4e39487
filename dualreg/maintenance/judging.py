"""Judging: what clients cannot read of an image as it is stored, and what they get by tag instead."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dualreg.image import media_types
from dualreg.image.editions import Family
from dualreg.image.facts import V1_IMAGE, Facts, Obstacle
from dualreg.image.readers import READERS, Reader, obstacles, unsolved
from dualreg.registry.accept import Accept, Agent
from dualreg.registry.editions import Form, Nature, suitable

#: Clients of every generation, if none are named.
DEFAULT_READERS = ("containerd-2.1", "docker-20.10", "docker-1.13", "docker-1.9", "v1")


class Judgement(NamedTuple):
    """What clients cannot read of an image, and what they get instead.

    Attributes:
        clients: Those for which the rest is the same.
        obstacles: What keeps them from the image as it is stored.
        by_tag: What this registry makes of it for them; empty: they cannot read it by tag, either.
    """

    clients: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]
    by_tag: str

    @property
    def cells(self) -> tuple[str, str, str]:
        """What a table has of it."""
        return ", ".join(self.clients), ", ".join(self.obstacles), self.by_tag or "-"

    def members(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {**self._asdict(), "by_tag": self.by_tag or None}


def readers_of(names: Iterable[str]) -> Sequence[Reader]:
    """Return the clients of some names.

    Raises:
        ValueError: one is unknown.
    """
    given = [*names]
    if unknown := [name for name in given if name not in READERS]:
        raise ValueError(f"unknown client {unknown[0]!r}; expected {', '.join(READERS)}")
    return [READERS[name] for name in given]


def is_artifact(facts: Facts) -> bool:
    """Return whether a tag is an artifact, which is no image for any client."""
    return Obstacle.ARTIFACT in facts.obstacles


def judge(facts: Facts, readers: Iterable[Reader], *, only_unsolved: bool = False) -> list[Judgement]:
    """Return what the *readers* that cannot read an image miss, those together that miss the same.

    Of an artifact, nothing is returned.

    Args:
        only_unsolved: Leave out what they can read by tag.
    """
    if is_artifact(facts):
        return []
    found = dict[tuple[tuple[Obstacle, ...], str], list[str]]()
    for reader in readers:
        if missing := obstacles(reader, facts):
            by_tag = "" if unsolved(missing) else _by_tag(reader, facts)
            found.setdefault((missing, by_tag), []).append(reader.name)
    judged = [Judgement(tuple(clients), *key) for key, clients in found.items()]
    return [each for each in judged if not (only_unsolved and each.by_tag)]


def _by_tag(reader: Reader, facts: Facts) -> str:
    """Return what a reader gets by tag, as the table of ``registry.editions`` says; empty: as stored."""
    if V1_IMAGE in reader.manifests:
        return "V1 image"
    media_type, image = (
        media_types.DOCKER_MANIFEST if each == V1_IMAGE else each  # of which V1 images are made
        for each in (facts.media_type, facts.image_type)
    )
    nature = Nature(media_type, frozenset({Family.of(image)}), facts.has_zstd)
    form = suitable(Accept(reader.manifests, agent=Agent(zstd=reader.zstd)), nature)
    texts = {Form.SCHEMA1: "schema 1", Form.SCHEMA2: "schema 2", Form.OCI: "OCI"}
    if form is Form.SCHEMA2 and media_type in media_types.INDEXES:
        texts[form] = "manifest list"
    gzip = "gzip layers" if facts.has_zstd and form in (Form.GZIP, Form.SCHEMA2, Form.OCI) else ""
    return ", ".join(filter(None, (texts.get(form), gzip)))
