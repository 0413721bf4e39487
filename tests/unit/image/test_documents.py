"""JSON read strictly, and written the way Docker writes it."""

import pytest

from dualreg.image.documents import dump, misspelt, parse_object, respelt


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"{}", {}),
        (b' {"a": 1}\n', {"a": 1}),
        (b'{"a":{"b":[1,2.5,null,true]}}', {"a": {"b": [1, 2.5, None, True]}}),
        pytest.param(
            b'{"a":{"Key":1,"key":2}}', {"a": {"Key": 1, "key": 2}}, id="cases differ below the top"
        ),
        pytest.param('{"ключ":"é"}'.encode(), {"ключ": "é"}, id="UTF-8"),
        pytest.param(b'{"a":"\\ud83d\\ude00"}', {"a": "\U0001f600"}, id="escaped surrogate pair"),
        pytest.param(b'{"a":9223372036854775808}', {"a": 2**63}, id="beyond 64 bits"),
        pytest.param(b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", None, id="300 deep"),
    ],
)
def test_objects_are_read(data: bytes, expected: dict[str, object] | None) -> None:
    """Unambiguous JSON objects are read as they are."""
    document = parse_object(data)
    assert document == expected or (expected is None and list(document) == ["a"])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"a"', id="text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1", id="number"),
        pytest.param(b'{"a":1', id="cut short"),
        pytest.param(b'{"a":1}x', id="trailing garbage"),
        pytest.param(b'{"a":1}{"a":1}', id="two documents"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate key"),
        pytest.param(b'{"a":1,"\\u0061":1}', id="duplicate key, escaped"),
        pytest.param(b'{"x":{"a":1,"a":2}}', id="duplicate key, nested"),
        pytest.param(b'{"x":[{"a":1,"a":2}]}', id="duplicate key in a list"),
        pytest.param(b'{"layers":[],"Layers":[]}', id="keys differ in case"),
        pytest.param('{"layers":[],"layer\u017f":[]}'.encode(), id="keys differ in Unicode case"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="infinity"),
        pytest.param(b'{"a":-Infinity}', id="minus infinity"),
        pytest.param(b'{"a":1e999}', id="a number no float can hold"),
        pytest.param(b'{"a":[-1e400]}', id="a negative one, nested"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="an integer of 5000 digits"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="encoded surrogate"),
        pytest.param(b'{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\udfff":1}', id="half a surrogate pair as key"),
        pytest.param(b'{"x":{"a":["\\ude00\\ud83d"]}}', id="surrogates in the wrong order"),
        pytest.param(b'{"a":"\n"}', id="raw control character"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="byte order mark"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nested too deeply"),
        pytest.param(b'{"a":' * 100_000, id="nested too deeply, objects"),
        pytest.param(b"[" * 100_000, id="nested too deeply, cut short"),
    ],
)
def test_what_is_ambiguous_is_refused(data: bytes) -> None:
    """Whatever two readers could understand differently is a ValueError, never another exception."""
    with pytest.raises(ValueError, match=r"."):
        parse_object(data)


def test_any_depth_is_read_or_refused_cleanly() -> None:
    """Around the deepest nesting that can be followed, escapes included, nothing but ValueError comes out."""
    for depth in range(900, 1100):
        data = b'{"a":' + b"[" * depth + b'"\\u0041"' + b"]" * depth + b"}"
        try:
            document = parse_object(data)
        except ValueError:
            continue
        assert list(document) == ["a"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, b"{}"),
        ({"b": 1, "a": [1, {"c": None}]}, b'{"b":1,"a":[1,{"c":null}]}'),
        pytest.param({"a": "<b> & c"}, b'{"a":"\\u003cb\\u003e \\u0026 c"}', id="HTML"),
        pytest.param({"<": 1}, b'{"\\u003c":1}', id="HTML in a key"),
        pytest.param({"a": "\u2028\u2029"}, b'{"a":"\\u2028\\u2029"}', id="line separators"),
        pytest.param({"a": "é\U0001f600"}, '{"a":"é\U0001f600"}'.encode(), id="UTF-8 stays"),
        pytest.param({"a": '\\"\n\t\x01'}, b'{"a":"\\\\\\"\\n\\t\\u0001"}', id="standard escapes"),
        pytest.param({"a": "\\u003c"}, b'{"a":"\\\\u003c"}', id="an escape as text"),
        pytest.param({"a": 2**64}, b'{"a":18446744073709551616}', id="beyond 64 bits"),
    ],
)
def test_documents_are_written_as_go_does(document: dict[str, object], expected: bytes) -> None:
    """Compact, keys in the order given, and Go's HTML escapes: ids hang on every byte."""
    assert dump(document) == expected
    assert parse_object(dump(document)) == document


def test_indented_documents_are_dockers() -> None:
    """Three spaces, a space after colons only, no trailing newline."""
    assert dump({"a": [1, 2], "b": {}}, indent=3) == b'{\n   "a": [\n      1,\n      2\n   ],\n   "b": {}\n}'


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"os": 1, "x": 2}, {"os": 1, "x": 2}),
        ({"OS": 1, "X": 2}, {"os": 1, "X": 2}),
        ({"o\u017f": 1}, {"os": 1}),
        ({"os": 1, "Os": 2}, None),
        ({"X": 1, "x": 2}, {"X": 1, "x": 2}),
    ],
)
def test_known_members_are_read_in_any_case(
    document: dict[str, object], expected: dict[str, object] | None
) -> None:
    """As programs in Go do; but of two spellings neither is right."""
    wrong = next((key for key in document if key not in ("os", "x", "X")), None)
    assert misspelt(document, ["os"]) == wrong
    if expected is None:
        with pytest.raises(ValueError, match="case"):
            respelt(document, ["os"])
    else:
        assert respelt(document, ["os"]) == expected
