"""docs/openapi.yaml describes the API, and requests that follow or break it are answered properly.

Requests are generated from the description by schemathesis, and from hostile texts by Hypothesis.
FUZZ_EXAMPLES sets how many of each kind; only with it, or in a soak test, schemathesis also breaks what the
description says: preparing that takes seconds for each operation.
"""

import copy
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from dualreg.assembly import build_registry
from dualreg.catalog.database import Catalog
from dualreg.catalog.upgrade import upgrade
from dualreg.image import media_types
from dualreg.image.digest import Digest
from dualreg.storage.memory import MemoryStore
from dualreg.web.v2.errors import V2_ERRORS
from tests.apps import application
from tests.builders import descriptor, image, layer
from tests.conftest import Clock
from tests.protocol.exchange import REPOSITORY, make_world
from tests.soak import SOAK, short_or_long
from tests.state import snapshot

DESCRIPTION = yaml.safe_load((Path(__file__).parents[2] / "docs/openapi.yaml").read_text(encoding="utf-8"))
CODES = {rendering.code for rendering in V2_ERRORS.values()} | {"UNKNOWN"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", short_or_long("3", "200")))
MODES = [*GenerationMode] if SOAK or "FUZZ_EXAMPLES" in os.environ else [GenerationMode.POSITIVE]
#: Machines differ, the registry is put back before each example, and none is too large. To make a failing
#: one smaller takes longer than to read it.
PLAYING = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[*HealthCheck],
)
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


class Playground:
    """A registry with a little of everything, that is as new after each ``reset``."""

    def __init__(self, folder: Path) -> None:
        """Fill it, and remember how it is."""
        self._file, self._kept = folder / "catalog.sqlite3", folder / "kept.sqlite3"
        self._catalog = Catalog(f"sqlite:///{self._file}", now=Clock())
        upgrade(self._catalog)
        self._store = MemoryStore()
        self.registry = build_registry(self._catalog, self._store)
        self.app = application(self.registry)
        self.app.config["PROPAGATE_EXCEPTIONS"] = False
        client = self.app.test_client()
        world = make_world(client)
        subject = descriptor(world.image.media_type, world.image.manifest)
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [],
            "subject": subject,
        }
        put = client.put(
            f"/v2/{REPOSITORY}/manifests/about", json=document, content_type=media_types.OCI_INDEX
        )
        assert put.status_code == 201
        assert client.get("/_status").status_code == 200  # leaves a row, which it then finds
        # Which values there are, by the names that the description has for them.
        image_, layer_ = str(world.image.digest), str(Digest.of(world.image.layers[0]))
        self.known: dict[str, list[str]] = {
            "tag": ["one", "absent"],
            "name": [REPOSITORY, "t/new"],
            "digest": [image_, layer_, str(Digest.of(world.loose)), str(Digest.of(world.index))],
            "reference": ["one", "index", "v1", "new", image_, str(Digest.of(world.index))],
            "upload": [world.upload.rpartition("/")[2]],
        }
        self.manifest = json.loads(world.image.manifest)
        self._catalog.close()
        shutil.copy(self._file, self._kept)
        self._memory = {name: {**vars(self._store)[name]} for name in ("_blobs", "_staged", "_links")}

    def reset(self) -> None:
        """Undo all that was done."""
        self._catalog.close()
        for suffix in ("-wal", "-shm"):
            self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
        shutil.copy(self._kept, self._file)
        for name, held in self._memory.items():
            setattr(self._store, name, {**held})

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playground]:
    """One for all tests of this module."""
    playground = Playground(tmp_path_factory.mktemp("playground"))
    yield playground
    playground.close()


def refused_well(method: str, status: int, content_type: str, body: bytes) -> None:
    """Check that an answer is no failure of the registry, and that a refusal is in the dialect."""
    assert status < 500
    if status < 400 or method == "HEAD":
        return
    if status == 416 and not body:
        return  # an unsatisfiable range of a blob
    assert content_type == "application/json"
    entries = json.loads(body)["errors"]
    assert entries
    assert {entry["code"] for entry in entries} <= CODES
    assert all(isinstance(entry["message"], str) for entry in entries)


# --- the description is complete


def routes(playground: Playground) -> set[tuple[str, str]]:
    """Return method and path of /_status and every route below /v2, as the description writes them."""
    return {
        (method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule))
        for rule in playground.app.url_map.iter_rules()
        if rule.rule.startswith(("/v2", "/_status"))
        for method in rule.methods - {"OPTIONS"}
    }


def test_every_route_is_described(playground: Playground) -> None:
    """With all its methods; and only existing routes are."""
    described = {
        (key.upper(), path)
        for path, item in DESCRIPTION["paths"].items()
        for key in item
        if key.upper() in METHODS
    }
    assert described == routes(playground)


def test_every_code_is_described() -> None:
    """The codes of errors are those of the dialect's table."""
    items = DESCRIPTION["components"]["schemas"]["Errors"]["properties"]["errors"]["items"]
    assert {*items["properties"]["code"]["enum"]} == CODES


def test_operations_have_their_own_ids() -> None:
    """Generators of clients name functions after them."""
    ids = [
        operation["operationId"]
        for item in DESCRIPTION["paths"].values()
        for key, operation in item.items()
        if key.upper() in METHODS
    ]
    assert len(ids) == len(set(ids))


# --- what it describes is so

OPERATIONS = {
    result.ok().label: result.ok()
    for result in schemathesis.openapi.from_dict(DESCRIPTION).get_all_operations()
}


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("label", OPERATIONS)
def test_requests_along_the_description(playground: Playground, label: str, mode: GenerationMode) -> None:
    """Requests that follow it are answered as described; others are refused and change nothing."""
    operation = OPERATIONS[label]
    if mode is GenerationMode.NEGATIVE and label.endswith(("/v2", "/v2/", "/discover", "/_status")):
        pytest.skip("takes nothing that could be wrong")

    @PLAYING
    @given(st.data())
    def play(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(mode))
        for name in case.path_parameters or {}:
            if data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(playground.known[name]))
        playground.reset()
        before = snapshot(playground.registry)
        response = case.call(app=playground.app)
        content_type = (response.headers.get("content-type") or [""])[0]
        refused_well(case.method, response.status_code, content_type, response.content)
        if response.status_code >= 400 or case.method in ("GET", "HEAD"):
            assert snapshot(playground.registry) == before
        if mode is GenerationMode.POSITIVE:
            # In process, values of headers can be texts of our own types, which validators do not take.
            response.headers = {name: [*map(str, values)] for name, values in response.headers.items()}
            case.validate_response(response, checks=CHECKS)

    play()


# --- what nobody would describe

TEXTS = st.sampled_from(
    [
        "",
        "..",
        ".",
        "a/../b",
        "%2e%2e",
        "%2f",
        "%",
        "%zz",
        "%ff%fe",
        "a%00b",
        "a\0b",
        "a\r\nX-Injected: 1",
        "a%0d%0aX-Injected:%201",
        "\u0661\u0662\u0663",
        "\u00e4",
        "\u2028",
        "9" * 4300,
        "9" * 20,
        "-1",
        "1e9",
        "+1",
        "0x10",
        "a" * 129,
        "a" * 256,
        "a/" * 200 + "a",
        "*",
        "_catalog",
        "uploads",
        "sha256:",
        "sha256:" + "0" * 63 + "\u0660",
        "sha256:" + "0" * 64,
        "sha512:" + "0" * 128,
        "bytes=0-",
        "0-4",
        "99999999999999999-a",
        "99999999999999999-sha256:" + "0" * 64,
    ]
) | st.text(max_size=12)
KEYS = ("n", "last", "digest", "mount", "from", "tag", "artifactType", "after", "prefix", "sort")
HEADERS = (
    "Accept",
    "Content-Type",
    "Content-Range",
    "Range",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Origin",
)
#: JSON, but not what belongs there; a lone surrogate is text that UTF-8 cannot express.
VALUES = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**63,
        10**400,
        1.5,
        float("inf"),
        "",
        "\0",
        "\ud800",
        "x" * 70_000,
        [],
        {},
        [[]],
        "latest",
    ]
)
APP = image(layer({"fuzz": b"1"}))


@st.composite
def bodies(draw: st.DrawFn, manifest: Mapping[str, Any]) -> bytes:
    """Make a manifest with a few members replaced, or something that is none."""
    if draw(st.integers(0, 3)) == 0:
        deep = (b'{"a":' * 100_000, b"[" * 100_000, b'{"schemaVersion":2,"config":' + b"9" * 5000 + b"}")
        return draw(st.binary(max_size=40) | st.sampled_from((b"", b"{}", b"null", *deep, APP.manifest)))
    document = json.loads(json.dumps(manifest))
    for _ in range(draw(st.integers(0, 2))):
        place: Any = document
        while True:
            keys = [*place] if isinstance(place, dict) else [*range(len(place))]
            extra = ["subject", "annotations", "artifactType", "data", "manifests", "platform", "urls"]
            key = draw(st.sampled_from(keys + extra if isinstance(place, dict) else keys or [0]))
            below = place.get(key) if isinstance(place, dict) else (place[key] if keys else None)
            if not isinstance(below, dict | list) or not below or draw(st.booleans()):
                break
            place = below
        if isinstance(place, dict) or keys:
            copied = st.sampled_from([{**manifest["config"]}, {"a": "\ud800"}, {"\ud800": "a"}, {"\0": "\0"}])
            place[key] = copy.deepcopy(draw(VALUES | copied))  # or the next example would find it changed
    return json.dumps(document).encode()


@st.composite
def hostile(draw: st.DrawFn, playground: Playground, path: str) -> dict[str, Any]:
    """Make a WSGI environment for *path*, whose gaps are filled with existing names or hostile texts."""

    def text(name: str) -> str:
        known = playground.known.get(name, [*playground.known["digest"], *playground.known["name"], "1"])
        return draw(st.sampled_from(known) if draw(st.integers(0, 2)) else TEXTS)

    def sent(value: str) -> str:
        """Quote some characters, all, or next to none."""
        return quote(value, safe=draw(st.sampled_from(["", "/:", "/:%.+&=?"])))

    filled = re.sub(r"\{(\w+)\}", lambda gap: sent(text(gap[1])), path)
    query = "&".join(f"{key}={sent(text(key))}" for key in draw(st.lists(st.sampled_from(KEYS), max_size=3)))
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": re.sub(r"[\r\n\0]", "", text(name))
        .encode()
        .decode("latin-1")
        for name in draw(st.lists(st.sampled_from(HEADERS), max_size=3, unique=True))
    }
    if content_type := headers.pop("HTTP_CONTENT_TYPE", None):
        headers["CONTENT_TYPE"] = content_type
    raw = unquote_to_bytes(filled.partition("?")[0]).decode("latin-1")
    return {"PATH_INFO": raw, "QUERY_STRING": query, **headers}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", DESCRIPTION["paths"])
def test_requests_of_no_description(playground: Playground, method: str, path: str) -> None:
    """Any request is answered in the dialect, and a refused one changes nothing."""

    @PLAYING
    @given(st.data())
    def play(data: st.DataObject) -> None:
        environ = data.draw(hostile(playground, path))
        body = data.draw(bodies(playground.manifest)) if method in ("PUT", "POST", "PATCH") else b""
        playground.reset()
        before = snapshot(playground.registry)
        answer = playground.app.test_client().open(
            method=method, data=body, content_type=media_types.DOCKER_MANIFEST, environ_overrides=environ
        )
        refused_well(method, answer.status_code, answer.headers.get("Content-Type", ""), answer.data)
        assert "X-Injected" not in answer.headers
        assert not any("\n" in value or "\r" in value for value in answer.headers.values())
        if answer.status_code >= 400 or method in ("GET", "HEAD"):
            assert snapshot(playground.registry) == before

    play()
