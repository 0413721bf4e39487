"""Description: what an image is and how it was built, as its config, V1 JSON or schema 1 manifest says.

All of it is what clients wrote: texts are cut, and whatever is not as expected is left out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dualreg.image.descriptor import Descriptor
from dualreg.image.digest import Digest
from dualreg.image.documents import parse_object
from dualreg.image.platform import Platform
from dualreg.image.v1_image import CHAIN_LIMIT

#: Characters of a text, and members of a list, that are shown.
_TEXT_LIMIT, _LIST_LIMIT = 4000, 200
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the build of an image.

    Attributes:
        created: When, as the document writes times.
        created_by: The command.
        layer: What it made; None: nothing.
        size: Bytes of the layer; None: unknown, or there is none.
        image: The V1 image that it made; None: none.
    """

    created: str
    created_by: str
    layer: Digest | None = None
    size: int | None = None
    media_type: str = ""
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What an image is, and how it is run; empty: the document does not say."""

    platform: str = ""
    created: str = ""
    author: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    environment: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def describe(document: Document) -> Description:
    """Return what the config of an image says, or the JSON of a V1 image, which has the same members.

    Source: OCI image-spec v1.1, config.md, "Properties"; Docker "Image Specification v1.0.0".
    """
    config = _dict(document.get("config"))
    labels = {str(key): str(value) for key, value in _dict(config.get("Labels")).items()}
    return Description(
        platform=str(Platform.named_by(document)),
        created=_text(document.get("created")),
        author=_text(document.get("author")),
        entrypoint=_words(config.get("Entrypoint")),
        command=_words(config.get("Cmd")),
        user=_text(config.get("User")),
        working_dir=_text(config.get("WorkingDir")),
        environment=_words(config.get("Env")),
        ports=_words(sorted(_dict(config.get("ExposedPorts")))),
        volumes=_words(sorted(_dict(config.get("Volumes")))),
        stop_signal=_text(config.get("StopSignal")),
        labels={key[:_TEXT_LIMIT]: labels[key][:_TEXT_LIMIT] for key in [*labels][:_LIST_LIMIT]},
    )


def steps_of(document: Document, layers: Sequence[Descriptor]) -> tuple[Step, ...]:
    """Return the steps of a config's history with the layers that they made, first ones first.

    If the history does not fit the layers, these are steps of which nothing else is known.
    """
    history = [_dict(each) for each in _list(document.get("history"))[:CHAIN_LIMIT]]
    if sum(not each.get("empty_layer") for each in history) != len(layers):
        history = [{} for _ in layers[:CHAIN_LIMIT]]
    remaining, steps = iter(layers), list[Step]()
    for each in history:
        layer = None if each.get("empty_layer") else next(remaining)
        steps.append(_step(_text(each.get("created")), _text(each.get("created_by")), layer))
    return tuple(steps)


def v1_step(document: Document, layer: Descriptor) -> Step:
    """Return the step that a V1 image is, given its JSON."""
    command = " ".join(_words(_dict(document.get("container_config")).get("Cmd")))
    return _step(_text(document.get("created")), command, layer, _text(document.get("id"))[:64] or None)


def v1_documents(payload: bytes) -> list[Document]:
    """Return the V1 JSONs in a schema 1 manifest, the base first."""
    entries = _list(parse_object(payload).get("history"))[:CHAIN_LIMIT]
    texts = (_dict(entry).get("v1Compatibility") for entry in reversed(entries))
    return [parse_object(text.encode()) if isinstance(text, str) else {} for text in texts]


def _step(created: str, command: str, layer: Descriptor | None, image: str | None = None) -> Step:
    if layer is None:
        return Step(created, command, image=image)
    return Step(created, command, layer.digest, layer.size, layer.media_type[:_TEXT_LIMIT], image)


def _text(value: object) -> str:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else ""


def _words(value: object) -> tuple[str, ...]:
    """Return the texts of a list; of a text alone, that one."""
    texts: Iterable[object] = [value] if isinstance(value, str) and value else _list(value)
    return tuple(_text(each) for each in [*texts][:_LIST_LIMIT] if isinstance(each, str))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> Document:
    return value if isinstance(value, dict) else {}
