"""Bodies of requests: read as they arrive, they are what gunicorn's own readers make of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.cli.parsing import Parser
from tests.soak import short_or_long

#: The next request on the connection.
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
_HEAD = b"PUT /first HTTP/1.1\r\nHost: x\r\n"
#: What may follow the size of a chunk. The last ones are malformed.
_EXTENSIONS = [
    "",
    ";a",
    " ; a = b",
    ';a="b;\\"c"',
    ";a;b=c\t;d",
    ";",
    " ",
    ";a=\x01",
    ';a="',
    ";a\rb",
    ";a" * 4200,
]
#: What may follow the last chunk; as before.
_TRAILERS = ["", "a: b\r\n", "a: b\r\nc:\r\n", "a: b\n", "a\r\n", ": b\r\n", " a: b\r\n", "a: b\r\n" * 200]
_SIZES = st.integers(0, 40) | st.integers(0, 70_000)
#: How the size of a chunk may be written, and what may end its line or content; the first ones are valid.
_FORMS = [
    "%x",
    "%X",
    "0%x",
    "00000000000000000%x",
    "+%x",
    "0x%x",
    " %x",
    "%x_0",
    "%x\u0661",
    "-%x",
    "%xg",
    "%x ",
]
_ENDS = ["\r\n", "\n", "\r", "", "\n\r", "\r\r\n", "x\r\n"]


@dataclass
class Packets:
    """A socket on which a client has sent all it ever sends, in packets."""

    packets: list[bytes]

    def recv(self, size: int) -> bytes:
        """Return a packet, or as much of it as was asked for."""
        if not self.packets:
            return b""
        first = self.packets.pop(0)
        if len(first) > size:
            self.packets.insert(0, first[size:])
        return first[:size]


@dataclass
class Read:
    """What was made of a request.

    Attributes:
        failure: Of the body: the class and text of the error.
        trailers: Of the body.
        rest: What is not read of the connection; None if that does not matter, after a failure.
    """

    content: bytes
    failure: tuple[str, str] | None
    trailers: Any
    rest: bytes | None


def read(parser: Any, reads: Callable[[Any], Iterator[bytes]]) -> Read:
    """Parse a request, and read its body in *reads*."""
    request, content, failure = next(parser), bytearray(), None
    try:
        for data in reads(request.body):
            content += data
    except Exception as error:  # noqa: BLE001 -- gunicorn's share no other class
        failure = (type(error).__name__, str(error))
        assert request.body.failed
    rest = None if failure else parser.unreader.take_buffered() + b"".join(parser.unreader.sock.packets)
    return Read(bytes(content), failure, getattr(request, "trailers", None), rest)


def split(sent: bytes, sizes: Sequence[int]) -> Packets:
    """Divide *sent* into packets of *sizes*, over and over."""
    packets = []
    while sent:
        for size in sizes:
            packets.append(sent[: size + 1])
            sent = sent[size + 1 :]
    return Packets([*filter(None, packets)])


def by_gunicorn(sent: bytes, sizes: Sequence[int]) -> Read:
    """Read with gunicorn's readers, which lose what they have collected before an error: byte by byte."""
    parser = RequestParser(Config(), split(sent, sizes), None)
    return read(parser, lambda body: iter(lambda: body._read_reader(1), b""))


def _mostly(valid: int, values: list[str]) -> st.SearchStrategy[str]:
    """One of the *valid* first values; one time in six, any."""
    return st.integers(0, 5).flatmap(lambda number: st.sampled_from(values if not number else values[:valid]))


@st.composite
def _chunk(draw: st.DrawFn) -> bytes:
    """A chunk, now and then malformed."""
    data = draw(st.binary(min_size=1, max_size=3)) * (draw(_SIZES) + 1)
    line = draw(_mostly(4, _FORMS)) % len(data) + draw(_mostly(5, _EXTENSIONS)) + draw(_mostly(1, _ENDS))
    return line.encode() + data + draw(_mostly(1, _ENDS)).encode()


@st.composite
def _chunked(draw: st.DrawFn) -> bytes:
    chunks = b"".join(draw(st.lists(_chunk(), max_size=6)))
    last = draw(_mostly(4, _FORMS)) % 0 + draw(_mostly(5, _EXTENSIONS))
    return chunks + f"{last}\r\n{draw(_mostly(3, _TRAILERS))}\r\n".encode()


@st.composite
def _sent(draw: st.DrawFn) -> bytes:
    """A request with a body and the beginning of another, cut off somewhere now and then."""
    if draw(st.booleans()):
        body = draw(_chunked())
        head = b"Transfer-Encoding: chunked\r\n\r\n"
    else:
        body = draw(st.binary(max_size=3)) * draw(_SIZES)
        head = b"Content-Length: %d\r\n\r\n" % len(body)
    follows = body + draw(st.sampled_from([NEXT, NEXT[:9], b""]))
    cut = draw(st.just(len(follows)) | st.integers(0, len(follows)))
    return _HEAD + head + follows[:cut]


def compare(sent: bytes, packets: Sequence[int], steps: Sequence[int], *, collected: bool = False) -> None:
    """Read a body in *steps*, by ``read`` if *collected*, and compare what it is with gunicorn's."""

    def reads(body: Any) -> Iterator[bytes]:
        sizes = [size + 1 for size in steps]
        while data := (body.read if collected else body.read1)(sizes[0]):
            assert len(data) <= sizes[0]
            yield data
            sizes.append(sizes.pop(0))

    expected = by_gunicorn(sent, packets)
    actual = read(Parser(Config(), split(sent, packets), None), reads)
    if collected and expected.failure:  # read() loses what it has collected before an error, as gunicorn's
        assert expected.content.startswith(actual.content)
        actual.content = expected.content
    assert actual == expected


@pytest.mark.slow
@settings(max_examples=short_or_long(100, 20_000), deadline=None)
@given(_sent(), st.lists(_SIZES, min_size=1, max_size=9), st.lists(_SIZES, min_size=1), st.booleans())
def test_bodies_are_what_gunicorn_makes_of_them(
    sent: bytes,
    packets: list[int],
    steps: list[int],
    collected: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Content, errors, trailers and where the next request starts are the same, however it arrives."""
    compare(sent, packets, steps, collected=collected)


#: How many bytes a packet has; small ones take long, so only some forms of lines come in them.
_ONE_PACKET, _SMALL_PACKETS = 1 << 20, (0, 3)


@pytest.mark.parametrize(
    ("form", "packet"),
    [
        *product(_FORMS, [_ONE_PACKET]),
        *(
            pytest.param(form, packet, marks=pytest.mark.slow)
            for form, packet in product(short_or_long(_FORMS[:2], _FORMS), _SMALL_PACKETS)
        ),
    ],
)
def test_lines_of_chunks(form: str, packet: int) -> None:
    """Each way to write the line of a chunk, at each place, with each end of the line or of the content."""
    ends_of_each = [("\r\n", end) for end in _ENDS] + [(end, "\r\n") for end in _ENDS]
    for faulty, extension, ends in product(range(3), _EXTENSIONS, ends_of_each):
        body = b""
        for number, data in enumerate(["ab" * 20, "cd" * 9, ""]):
            line = f"{len(data):x}\r\n", "\r\n"
            if number == faulty:
                line = form % len(data) + extension + ends[0], ends[1]
            body += (line[0] + data + line[1]).encode()
        compare(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + NEXT, [packet], [9999])


def test_small_chunks_cost_little() -> None:
    """What is received at once, with many chunks, is not copied for each of them, whatever its lines say."""
    chunk = b"000000000000000000000000001 ; a = b\r\nx\r\n"
    head = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nx"  # the chunk goes on in the next packet
    body = next(Parser(Config(), Packets([head, b"x\r\n" + chunk * 25_000 + b"0\r\n\r\n"]), None)).body
    began = time.process_time()
    assert sum(map(len, iter(lambda: body.read1(1 << 20), b""))) == 25_002
    assert time.process_time() - began < 1
