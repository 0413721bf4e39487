"""Requests that no client sends are answered, and never as failures of the registry.

``make fuzz N=1000000`` is the long form.
"""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dualreg.registry.blobs import Blobs
from tests.fuzz.grammar import Request
from tests.fuzz.mutations import changed_bytes, changed_json, changed_text
from tests.fuzz.run import batch
from tests.fuzz.send import Answer, Wrong, check
from tests.soak import short_or_long

JSON = ("Content-Type", "application/json")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(short_or_long(5, 200)))
def test_any_request_is_answered(number: int) -> None:
    """Below 500, in the dialect of its path; and what the registry holds is sound afterwards."""
    result = batch(0, number)
    assert result.failures == []
    assert result.answers.keys() >= {200, 201, 400, 404}


@pytest.mark.slow
def test_a_batch_can_be_repeated() -> None:
    """The same seed and number give the same answers."""
    assert batch(1, 2) == batch(1, 2) != batch(1, 7)


@pytest.mark.slow
def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has the request and the traceback."""

    def mistaken(*_: object, **__: object) -> None:
        raise KeyError("a mistake")

    monkeypatch.setattr(Blobs, "find_or_await", mistaken)
    failures = batch(0, 0).failures
    assert "/blobs/sha256:" in failures[0]
    assert "KeyError: 'a mistake'" in failures[0]


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("GET", "/v2/", Answer(500, [], b"")),
        ("GET", "/v1/", Answer(503, [("Retry-After", "5")], b"")),
        ("GET", "/v2/", Answer(200, [("Docker-Content-Digest", "a\r\nX-Injected: 1")], b"")),
        ("GET", "/v2/", Answer(200, [("Content-Length", "2")], b"abc")),
        ("HEAD", "/v2/", Answer(200, [], b"abc")),
        ("GET", "/v2/x", Answer(404, [("Content-Type", "text/html")], b"<p>")),
        ("GET", "/v2/x", Answer(404, [JSON], b'{"error": "unknown"}')),
        ("GET", "/%76%32/x", Answer(404, [JSON], b'{"error": "unknown"}')),
        ("GET", "/v2/x", Answer(404, [JSON], b'{"errors": [{"code": "NONE", "message": "x"}]}')),
        ("GET", "/v1/x", Answer(404, [JSON], b'{"errors": [{"code": "UNKNOWN", "message": "x"}]}')),
    ],
)
def test_a_wrong_answer_is_found(method: str, path: str, answer: Answer) -> None:
    """A failure, a header that ends early, a body of another length, or a refusal in another dialect."""
    with pytest.raises(Wrong):
        check(Request(method, path), answer)
    check(Request("GET", "/v2/x"), Answer(404, [JSON], b'{"errors": [{"code": "UNKNOWN", "message": "x"}]}'))
    check(Request("GET", "/v1/x"), Answer(404, [JSON], b'{"error": "x"}'))


@pytest.mark.parametrize(
    ("change", "original"),
    [(changed_text, "sha256:abc"), (changed_bytes, b"\x1f\x8babc"), (changed_json, b'{"a": [{"b": "c"}]}')],
)
def test_mutations_differ(change: Callable[[Random, Any], object], original: object) -> None:
    """From what they change, and from each other."""
    changed = [change(Random(number), original) for number in range(200)]  # noqa: S311 -- to be repeatable
    assert len(set(changed)) > 40
    assert changed.count(original) < 40
