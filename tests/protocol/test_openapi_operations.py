"""The API of administration is described in OpenAPI, and answers requests along it, also hostile ones."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode

from dualreg.image.names import RepositoryName, Tag
from dualreg.operations.openapi import document
from dualreg.operations.operation import PREFIX
from dualreg.operations.own import OWN_REQUESTS
from dualreg.operations.table import OPERATIONS
from tests import builders
from tests.auth import conftest
from tests.auth.conftest import Guarded
from tests.auth.test_operations import GIVEN
from tests.properties.registries import push_v2
from tests.protocol.test_openapi import CHECKS, MODES, PLAYING

guard, guarded, clock = conftest.guard, conftest.guarded, conftest.clock
DESCRIPTION = json.loads(json.dumps(document("1")))
DESCRIBED = {
    result.ok().label: result.ok()
    for result in schemathesis.openapi.from_dict(DESCRIPTION).get_all_operations()
    if not result.ok().path.startswith((f"{PREFIX}/me", f"{PREFIX}/permissions"))
}
IMAGE = builders.image(builders.layer({"a": b"1"}))
#: Texts that no operator sends, in a query, and in JSON, which has half characters.
HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(["\0", "a" * 5000, "%00", "1-", "9" * 17 + "-x", "-1", "0001-01-01T00:00+14:00"]),
)
HOSTILE_JSON = st.one_of(HOSTILE, st.text(max_size=30), st.just("\ud800"))


@pytest.mark.slow
def test_the_description_is_valid(guarded: Guarded) -> None:
    """By the validator of the OpenAPI initiative's schema; it is served without credentials."""
    answer = guarded.client.get(f"{PREFIX}/openapi.json")
    OpenAPIV31SpecValidator(answer.json).validate()
    described = {(method.upper(), path) for path, item in answer.json["paths"].items() for method in item}
    assert described == {(each.method, f"{PREFIX}{each.path}") for each in (*OPERATIONS, *OWN_REQUESTS)}


def test_everything_is_explained() -> None:
    """Each operation, and each parameter whose name does not say it all."""
    for each in OPERATIONS:
        assert re.fullmatch(r"[A-Z].*[.]", each.summary, re.DOTALL), each.name
        obvious = {"repository", "tag", "name", "account", "group"}
        silent = [name for name, one in each.parameters.items() if not one.about and name not in obvious]
        assert silent == [], each.name


class _Links(HTMLParser):
    """Collects what a page refers to, and what could be executed."""

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.links, self.active = set[str](), list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids |= {str(found["id"])} if "id" in found else set()
        self.links += [str(found["href"])] if "href" in found else []
        self.active += [tag] if tag in ("script", "style", "link", "img", "iframe") else []


def test_the_page_is_readable_without_scripts(guarded: Guarded) -> None:
    """It names every operation, and its policy allows nothing to be loaded."""
    answer = guarded.client.get(f"{PREFIX}/")
    parser = _Links()
    parser.feed(answer.text)
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert parser.active == []
    assert (
        {link[1:] for link in parser.links if link.startswith("#")}
        == parser.ids
        == {each.name for each in (*OPERATIONS, *OWN_REQUESTS)}
    )
    assert [link for link in parser.links if not link.startswith("#")] == [f"{PREFIX}/openapi.json"]
    assert all(f"dualreg {each.command}<" in answer.text for each in OPERATIONS)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("label", DESCRIBED)
def test_requests_along_the_description(
    guard: Callable[..., Guarded], label: str, mode: GenerationMode
) -> None:
    """They are answered as described, and hostile ones with an error of the client."""
    own = guard(login_limits="pair=99999,address=99999,account=99999")
    own.client.application.config["PROPAGATE_EXCEPTIONS"] = False
    root = own.account("root", ("*", "admin,manage"))
    push_v2(own.registry, RepositoryName("team/app"), Tag("v1"), IMAGE)
    operation = DESCRIBED[label]

    @PLAYING
    @given(st.data())
    def play(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(mode))
        for place in (case.query, case.body):
            for name in [*place] if isinstance(place, dict) else ():
                match data.draw(st.integers(0, 3)):
                    case 0 if name in GIVEN:
                        place[name] = GIVEN[name]
                    case 1 if mode is not GenerationMode.POSITIVE or isinstance(place[name], str):
                        place[name] = data.draw(HOSTILE_JSON if place is case.body else HOSTILE)
        case.headers = {**(case.headers or {}), **root}
        response = _call(case, own)
        assert response.status_code < 500, response.content
        response.headers = {name: [*map(str, values)] for name, values in response.headers.items()}
        if response.status_code != 413:
            case.validate_response(response, checks=CHECKS)

    play()


def _call(case: Any, own: Guarded) -> Any:
    return case.call(app=own.client.application)
