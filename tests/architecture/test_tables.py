"""What is listed in two places agrees: errors, and their answers in both dialects."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields

import pytest

from dualreg.errors import (
    DownloadFailed,
    IssuerUnavailable,
    RegistryError,
    ServerStopping,
    UpstreamBusy,
    UpstreamFailed,
)
from dualreg.web.v1.errors import V1_ERRORS
from dualreg.web.v2.errors import V2_ERRORS
from tests.architecture.sources import module

#: The specification's error codes, and the reference registry's three more.
#: Source: OCI distribution-spec v1.1, "Error Codes"; distribution, ``registry/api/v2/errors.go``.
V2_CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DENIED", "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "MANIFEST_UNVERIFIED", "NAME_INVALID",
    "NAME_UNKNOWN", "PAGINATION_NUMBER_INVALID", "SIZE_INVALID", "TOOMANYREQUESTS", "UNAUTHORIZED", "UNKNOWN",
    "UNSUPPORTED",
}  # fmt: skip


def _subclasses(error: type[RegistryError]) -> Iterator[type[RegistryError]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


#: Failures of others, and of a server that stops.
OTHERS = (ServerStopping, DownloadFailed, IssuerUnavailable, UpstreamBusy, UpstreamFailed)
ERRORS = sorted(set(_subclasses(RegistryError)), key=lambda error: error.__name__)


def test_both_dialects_render_every_error() -> None:
    """An error that a service can raise has an answer in V1 and V2, and no other is answered."""
    assert set(V1_ERRORS) == set(V2_ERRORS) == set(ERRORS)


@pytest.mark.parametrize("error", ERRORS)
def test_answers_are_of_the_clients_or_their_codes(error: type[RegistryError]) -> None:
    """Statuses are the client's kind, since faults of ours are no RegistryError; V2 codes are the spec's.

    A server that stops is an exception, as are the failures of other registries.
    """
    rendering = V2_ERRORS[error]
    highest = 503 if error in OTHERS else 499
    assert 400 <= V1_ERRORS[error] <= highest
    assert 400 <= rendering.status <= highest
    assert rendering.code in V2_CODES


def test_the_tree_of_errors_names_them_all() -> None:
    """The docstring that introduces the errors draws every one of them, and no other."""
    text = ast.get_docstring(module("dualreg.errors").tree) or ""
    tree = text[text.index("RegistryError") :]
    drawn = set(re.findall(r"\b[A-Z][a-z0-9]+(?:[A-Z][a-z0-9]+)+\b", tree))
    single = {error.__name__ for error in ERRORS if re.search(rf"\b{error.__name__}\b", tree)}
    apart = {"RegistryError"} | {
        node.name
        for node in module("dualreg.errors").tree.body
        if isinstance(node, ast.ClassDef) and node.name not in {error.__name__ for error in ERRORS}
    }
    assert (drawn | single) - apart == {error.__name__ for error in ERRORS}


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_has_a_message_of_its_own(error: type[RegistryError]) -> None:
    """The message names what is wrong, and starts the text of every instance."""
    assert error.message != RegistryError.message
    assert str(error(**{field.name: "x" for field in fields(error)})).startswith(error.message)


@pytest.mark.parametrize("error", ERRORS)
def test_fields_of_errors_are_keyword_only_and_plain(error: type[RegistryError]) -> None:
    """Renderers write fields as JSON, whatever the class."""
    assert all(field.kw_only for field in fields(error))
    assert {field.type for field in fields(error)} <= {str, int, str | None, int | None, Sequence[str]}
