"""Differences of two images: which layers only one of them has, and what their configs say differently."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from dualreg.image.description import Description, Step
from dualreg.image.digest import Digest
from dualreg.image.names import RepositoryName
from dualreg.registry.inspection import Image

#: What the variables, and the labels, of an image are called where they differ.
_VARIABLE, _LABEL = "environment", "label"


class Side(StrEnum):
    """Which of two images."""

    BOTH = "both"
    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class ComparedLayer:
    """A layer of two images.

    Attributes:
        side: Which of them has it: both, first or second.
        size: In bytes; null: unknown.
        created_by: The command that made it; empty: unknown.
    """

    side: Side
    layer: Digest
    size: int | None
    created_by: str


@dataclass(frozen=True, slots=True)
class ComparedSetting:
    """What two images say differently of themselves.

    Attributes:
        name: Such as entrypoint, environment PATH, or label version.
        first, second: Empty: this image does not say.
    """

    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class ComparedImages:
    """How two images of a repository differ.

    Attributes:
        first, second: Their manifests, which are others than were asked for if those are indexes.
        layers: Each once: those of the first image in order, and then those that only the second one has.
        bytes: Of the layers that both have.
        first_bytes, second_bytes: Of those that only this one has.
        settings: By name; empty if the config of one of them is lost, too.
    """

    repository: RepositoryName
    first: Digest
    second: Digest
    layers: tuple[ComparedLayer, ...]
    bytes: int
    first_bytes: int
    second_bytes: int
    settings: tuple[ComparedSetting, ...]


def differences(repository: RepositoryName, first: Image, second: Image) -> ComparedImages:
    """Return how two images of a repository differ."""
    layers = tuple(_layers(_by_layer(first), _by_layer(second)))
    sizes = {side: sum(each.size or 0 for each in layers if each.side is side) for side in Side}
    about = (first.description, second.description)
    return ComparedImages(
        repository=repository,
        first=first.digest,
        second=second.digest,
        layers=layers,
        bytes=sizes[Side.BOTH],
        first_bytes=sizes[Side.FIRST],
        second_bytes=sizes[Side.SECOND],
        settings=tuple(_settings(*(_said(each) for each in about if each))) if all(about) else (),
    )


def _by_layer(image: Image) -> dict[Digest, Step]:
    """Return the steps of an image that made layers; of a layer that is there twice, the first one."""
    found = dict[Digest, Step]()
    for step in image.steps:
        if step.layer:
            found.setdefault(step.layer, step)
    return found


def _layers(first: dict[Digest, Step], second: dict[Digest, Step]) -> Iterator[ComparedLayer]:
    for layer, step in {**first, **second, **first}.items():
        side = Side.SECOND if layer not in first else Side.BOTH if layer in second else Side.FIRST
        yield ComparedLayer(side, layer, step.size, step.created_by)


def _settings(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[ComparedSetting]:
    for name in sorted({*first, *second}):
        values = first.get(name, ""), second.get(name, "")
        if values[0] != values[1]:
            yield ComparedSetting(name, *values)


def _said(about: Description) -> dict[str, str]:
    """Return what an image says of itself, each variable and each label apart."""
    found = dict[str, str]()
    for field in fields(about):
        value = getattr(about, field.name)
        if field.name == "labels":
            found |= {f"{_LABEL} {name}": text for name, text in sorted(value.items())}
        elif field.name == "environment":
            pairs = (each.partition("=") for each in value)
            found |= {f"{_VARIABLE} {name}": text for name, _, text in pairs}
        else:
            found[field.name.replace("_", " ")] = value if isinstance(value, str) else " ".join(value)
    return found
