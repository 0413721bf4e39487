"""What accounts ask about themselves is described as it is answered, as test_openapi has it for V2."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode

from dualreg.operations import table as operations
from dualreg.operations.openapi import document
from dualreg.operations.operation import PREFIX
from dualreg.operations.own import OWN_REQUESTS
from tests.auth import conftest
from tests.auth.conftest import PASSWORD, Guarded, basic
from tests.protocol.test_openapi import CHECKS, METHODS, MODES, PLAYING

OWN_PATHS = tuple(f"{PREFIX}{path}" for path in ("/me", "/permissions"))
WHOLE = json.loads(json.dumps(document("1")))
DESCRIPTION = WHOLE | {
    "paths": {path: item for path, item in WHOLE["paths"].items() if path.startswith(OWN_PATHS)}
}
OPERATIONS = {
    result.ok().label: result.ok()
    for result in schemathesis.openapi.from_dict(DESCRIPTION).get_all_operations()
}
WHOLE_NAMES = [each["operationId"] for item in WHOLE["paths"].values() for each in item.values()]
guard, guarded, clock = conftest.guard, conftest.guarded, conftest.clock
#: What the schemas cannot say: names that there are.
KNOWN = {"who": ["alice", "@dev", "authenticated"], "pattern": ["team/app", "team/*", "{account}"]}


def test_every_route_is_described(guarded: Guarded) -> None:
    """Of the whole API, with all its methods, and all that has a name; and only existing routes are."""
    described = {
        (key.upper(), path) for path, item in WHOLE["paths"].items() for key in item if key.upper() in METHODS
    }
    routes = {
        (method, re.sub(r"<(?:path:)?(\w+)>", r"{\1}", rule.rule))
        for rule in guarded.client.application.url_map.iter_rules()
        if rule.rule.startswith(f"{PREFIX}/") and rule.endpoint not in ("api.get_page", "api.get_description")
        for method in rule.methods - {"OPTIONS", "HEAD"}
    }
    assert described == routes
    for each in OWN_REQUESTS:
        assert each.summary.endswith(".")
        assert {name for name, one in each.parameters.items() if not one.about} == set(), each.name
    assert len({each.name for each in (*OWN_REQUESTS, *operations.OPERATIONS)}) == len(WHOLE_NAMES)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("label", OPERATIONS)
def test_requests_along_the_description(
    guard: Callable[..., Guarded], label: str, mode: GenerationMode
) -> None:
    """They are answered as described, by whoever they are sent; anonymous ones change nothing."""
    own = guard(login_limits="pair=99999,address=99999,account=99999")
    own.client.application.config["PROPAGATE_EXCEPTIONS"] = False
    lead = own.account("lead", ("team/*", "pull,manage"))
    own.account("alice")
    own.accounts.join("dev", "alice")
    key = own.accounts.add_key("lead", limits="repository:team/*:pull", note="", lifetime=None)
    operation = OPERATIONS[label]

    def send(case: Any, headers: dict[str, str]) -> Any:
        case.headers = {**(case.headers or {}), **headers}
        response = case.call(app=own.client.application)
        assert response.status_code < 500
        if mode is GenerationMode.POSITIVE:
            response.headers = {name: [*map(str, values)] for name, values in response.headers.items()}
            case.validate_response(response, checks=CHECKS)
        return response

    @PLAYING
    @given(st.data())
    def play(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(mode))
        if data.draw(st.booleans()):
            for place in (case.query, case.body):
                if isinstance(place, dict):
                    place |= {
                        name: data.draw(st.sampled_from(KNOWN[name])) for name in KNOWN.keys() & place.keys()
                    }
            if "key" in (case.path_parameters or {}):
                case.path_parameters["key"] = key.id
        rules, rows = own.accounts.rules(), own.accounts.keys_of("lead")
        anonymous = send(case, {"Authorization": ""})
        assert anonymous.status_code == 401
        assert (own.accounts.rules(), own.accounts.keys_of("lead")) == (rules, rows)
        for headers in (basic("lead", key.text), lead):
            if send(case, headers).status_code == 204 and label.startswith("PUT"):
                own.accounts.set_password("lead", PASSWORD)

    play()
