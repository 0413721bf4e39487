"""Bodies of requests: read as they arrive, they are what gunicorn's own readers make of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gunicorn.config import Config
from gunicorn.http.parser import RequestParser
from hypothesis import given, settings
from hypothesis import strategies as st

from dualreg.cli.bodies import Parser
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


@st.composite
def _chunk(draw: st.DrawFn) -> bytes:
    """A chunk, now and then malformed."""
    data = draw(st.binary(min_size=1, max_size=3)) * (draw(_SIZES) + 1)
    size = draw(st.sampled_from(["%x", "%X", "0%x", "00000000000000000%x"])) % len(data)
    extension = draw(st.sampled_from(_EXTENSIONS[:5]) | st.sampled_from(_EXTENSIONS))
    end = draw(st.sampled_from([b"\r\n"] * 9 + [b"\n", b"\r", b"", b"x\r\n"]))
    return f"{size}{extension}\r\n".encode() + data + end


@st.composite
def _chunked(draw: st.DrawFn) -> bytes:
    chunks = b"".join(draw(st.lists(_chunk(), max_size=6)))
    last = draw(st.sampled_from(["0", "0", "0", "000", "", "-0", "+1", "0x1", "g", "1_0", "\u0661", " 1"]))
    extension = draw(st.sampled_from(_EXTENSIONS[:2]) | st.sampled_from(_EXTENSIONS))
    trailers = draw(st.sampled_from(_TRAILERS[:3]) | st.sampled_from(_TRAILERS))
    return chunks + f"{last}{extension}\r\n{trailers}\r\n".encode()


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


@settings(max_examples=short_or_long(100, 20_000), deadline=None)
@given(_sent(), st.lists(_SIZES, min_size=1, max_size=9), st.lists(_SIZES, min_size=1), st.booleans())
def test_bodies_are_what_gunicorn_makes_of_them(
    sent: bytes,
    packets: list[int],
    steps: list[int],
    collected: bool,  # noqa: FBT001 -- drawn
) -> None:
    """Content, errors, trailers and where the next request starts are the same, however it arrives."""

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


def test_small_chunks_cost_little() -> None:
    """A body of chunks of one byte is not copied for each of them, whatever their lines look like."""
    chunk = b"000000000000000000000000001 ; a = b\r\nx\r\n"
    sent = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 50_000 + b"0\r\n\r\n"
    body = next(Parser(Config(), Packets([sent]), None)).body
    began = time.process_time()
    assert sum(map(len, iter(lambda: body.read1(1 << 20), b""))) == 50_000
    assert time.process_time() - began < 2
