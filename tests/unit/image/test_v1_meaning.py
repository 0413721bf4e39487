"""What two V1 JSONs mean to Docker."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.image.v1_meaning import mean_the_same
from tests.builders import V1Pushed, layer
from tests.protocol.clients.graph import stored

ID, PARENT = "a" * 64, "b" * 64
BASE = {"id": ID, "created": "2014-01-01T00:00:00.5Z", "config": {"Cmd": ["/bin/sh"], "Volumes": {"/d": {}}}}


def encoded(document: dict[str, Any], **style: Any) -> bytes:
    """Return a document as JSON, in any style."""
    return json.dumps(document, **style).encode()


def changed(**members: Any) -> dict[str, Any]:
    """Return the base document with members of its config replaced."""
    return BASE | {"config": BASE["config"] | members}  # type: ignore[operator]  # a dict


@pytest.mark.parametrize(
    "other",
    [
        dict(reversed(BASE.items())),
        BASE | {"size": 6, "parent_id": "x", "layer_id": "y", "throwaway": True},
        BASE | {"comment": "", "author": None, "container_config": {"Env": [], "Tty": False, "Labels": {}}},
        BASE | {"created": "2014-01-01T00:00:00.500000000Z"},
        BASE | {"created": "2014-01-01T01:30:00.50+01:30"},
        {"id": ID, "Created": BASE["created"], "CONFIG": {"cmd": ["/bin/sh"], "volumes": {"/d": None}}},
        changed(Cmd="/bin/sh"),
        changed(Memory=5e8, CpuShares=1.0, Cpuset="0", PortSpecs=["80"], Healthcheck={"Test": ["NONE"]}),
        BASE | {"unknown": {"of": "another program"}},
    ],
)
def test_the_same_in_other_words(other: dict[str, Any]) -> None:
    """Order, spelling, empty members, sizes, and members that daemons drop mean nothing."""
    for style in ({}, {"indent": 3}, {"separators": (",", ":"), "ensure_ascii": False}):
        assert mean_the_same(encoded(BASE), encoded(other, **style))
        assert mean_the_same(encoded(other, **style) + b"\n", encoded(BASE))


@pytest.mark.parametrize(
    "other",
    [
        BASE | {"created": "2014-01-01T00:00:00.50000001Z"},
        BASE | {"created": "2014-01-01T00:00:00.5+01:00"},
        BASE | {"created": "0001-01-01T00:00:00Z"},
        BASE | {"author": "me"},
        BASE | {"container_config": {"Cmd": ["/bin/sh"]}},
        {"id": ID, "created": BASE["created"]},
        changed(Cmd=["/bin/sh", ""]),
        changed(Cmd=["/BIN/sh"]),
        changed(Env=["A=1"]),
        changed(Labels={"a": ""}),
        changed(Volumes={"/d": {}, "/e": {}}),
        changed(ExposedPorts={"80/tcp": {}}),
        changed(User="root"),
        changed(NetworkDisabled=True),
    ],
)
def test_another_image(other: dict[str, Any]) -> None:
    """What a container would notice, and what people wrote, counts."""
    assert not mean_the_same(encoded(BASE), encoded(other))
    assert not mean_the_same(encoded(other), encoded(BASE))


@pytest.mark.parametrize("created", ["0001-01-01T00:00:00Z", None, ""])
def test_no_time_is_the_zero_time(created: str | None) -> None:
    """Go writes it if there was none."""
    assert mean_the_same(b"{}", encoded({"created": created}))


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b'{"a":1,"a":2}', b"\xff"])
def test_what_is_no_json_is_only_itself(broken: bytes) -> None:
    """It is compared by its bytes."""
    assert mean_the_same(broken, broken)
    assert not mean_the_same(broken, b"{}")


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
configs = st.fixed_dictionaries(
    {},
    optional={
        "Cmd": st.none() | texts | st.lists(texts, max_size=3),
        "Entrypoint": st.none() | texts | st.lists(texts, max_size=3),
        "Env": st.none() | st.lists(texts, max_size=3),
        "Labels": st.none() | st.dictionaries(texts, texts, max_size=3),
        "Volumes": st.none() | st.dictionaries(texts, st.just({}), max_size=3),
        "Tty": st.booleans(),
        "User": texts,
        "Memory": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    },
)
documents = st.fixed_dictionaries(
    {"id": st.just(ID)},
    optional={
        "parent": st.just(PARENT),
        "created": st.sampled_from([None, "2014-01-02T03:04:05.100Z", "2014-12-31T23:59:59.000000001-11:30"]),
        "comment": texts,
        "author": st.none() | texts,
        "config": st.none() | configs,
        "container_config": configs,
        "architecture": texts,
        "Size": st.integers(),
        "other": st.lists(texts, max_size=2),
    },
)


@pytest.mark.slow
@given(documents)
def test_what_a_daemon_stores_means_what_it_pulled(document: dict[str, Any]) -> None:
    """Whatever an image says, Docker 1.8 writes it anew, and that is the same image."""
    image = V1Pushed(ID, encoded(document, indent=1), layer({"a": b"1"}))  # type: ignore[arg-type]  # an id
    assert mean_the_same(image.json, stored(image).json)
