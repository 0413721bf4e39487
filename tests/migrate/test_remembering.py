"""What migrations remember of millions of blobs, images and tags: what they need, in little memory."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualreg.image.digest import HEX_DIGITS, Digest
from dualreg.migrate.layer_facts import KnownLayers, LayerFacts
from dualreg.migrate.single_flight import Checks, Recent, SingleFlight

#: Keys whose memory is measured: less than twice as many are in the tables of a dictionary for them.
KEYS = 10_000
DIGESTS = [str(Digest.of(text)) for text in (b"json", b"layer", b"diff ID", b"checksum")]
FACTS = LayerFacts(1 << 40, 1_400_000_000_123_456_789, *DIGESTS, verified=True)


def bytes_of(make: Callable[[], object]) -> int:
    """Return how many bytes what *make* returns takes."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = make()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    del made
    return used


def checked() -> Checks:
    """Return the checks of blobs that are in order, here and in a source."""
    checks = Checks()
    for number in range(KEYS):
        for kind in (1, 2):
            assert not checks.get(number.to_bytes(32), kind, str)
    return checks


def known() -> KnownLayers:
    """Return the facts of layers, each with digests of its own."""
    layers = KnownLayers()
    for number in range(KEYS):
        digests = (f"sha256:{number:063x}{kind}" for kind in range(4))
        layers[f"{number:064x}"] = LayerFacts(number, number, *digests, verified=True)
    return layers


def asked(flight: SingleFlight[bytes, tuple[str, ...]], keys: int) -> SingleFlight[bytes, tuple[str, ...]]:
    """Ask for the results of so many keys."""
    for number in range(keys):
        assert flight.get(number.to_bytes(32), tuple) == ()
    return flight


@pytest.mark.parametrize(("make", "limit"), [(checked, 130), (known, 400)])
def test_a_key_takes_little(make: Callable[[], object], limit: int) -> None:
    """So few bytes for each blob that is in order, or for each layer with its id."""
    make()
    assert bytes_of(make) < limit * KEYS


def test_results_of_long_ago_are_forgotten() -> None:
    """However many there were, the last ones take the same."""
    used = [bytes_of(partial(asked, SingleFlight(1_000), keys)) for keys in (2_000, 4_000)]
    assert used[1] < used[0] * 1.01
    assert bytes_of(partial(asked, SingleFlight(None), 4_000)) > used[1] * 1.5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_the_last_values_are_remembered(steps: list[tuple[bool, int]]) -> None:
    """At least as many as promised, of those that were noted or found last, and at most twice as many."""
    least, recent, values, used = 3, Recent[int, str](3), dict[int, str](), list[int]()
    for number, (is_note, key) in enumerate(steps):
        if is_note:
            values[key] = f"{number}"
            recent.note(key, values[key])
        found = recent.get(key)
        assert found in (values.get(key), None)
        if key in used[-least:]:
            assert found == values[key]
        if found:
            used = [*(each for each in used if each != key), key]
    assert sum(recent.get(key) is not None for key in range(13)) <= 2 * least


def test_each_check_is_made_once() -> None:
    """By its kind, whatever was found; what is wrong is said each time."""
    checks, made = Checks(), list[tuple[str, int]]()

    def find(key: str, kind: int, problem: str) -> str:
        made.append((key, kind))
        return problem

    wanted = {("good", 1): "", ("good", 2): "", ("bad", 1): "", ("bad", 2): "lost", ("worse", 1): "damaged"}
    for _ in range(2):
        for (key, kind), problem in wanted.items():
            assert checks.get(key, kind, partial(find, key, kind, problem)) == problem
    assert made == [*wanted]


@pytest.mark.parametrize("algorithm", HEX_DIGITS)
def test_packed_digests(algorithm: str) -> None:
    """What is packed says the algorithm, too."""
    digest = Digest.of(b"a", algorithm)
    assert Digest.unpack(digest.packed) == digest
    assert digest.packed.hex() == digest.hex


@pytest.mark.parametrize(
    "facts",
    [
        FACTS,
        replace(FACTS, verified=False, size=0, mtime=-1),
        replace(FACTS, size=1 << 70),
        replace(FACTS, layer=str(Digest.of(b"layer", "sha512"))),
        replace(FACTS, layer=FACTS.layer.upper()),
        replace(FACTS, json=FACTS.json.removeprefix("sha256:")),
        replace(FACTS, json=f"{FACTS.json[:-2]}  "),
        replace(FACTS, diff_id=FACTS.diff_id[:-2], checksum=f"{FACTS.checksum}00"),
        replace(FACTS, json="", layer="", diff_id="", checksum=""),
        replace(FACTS, checksum="nonsense"),
        replace(FACTS, layer=None),  # type: ignore[arg-type] # which JSON can say
        replace(FACTS, size="1"),  # type: ignore[arg-type] # likewise
    ],
)
def test_the_facts_of_a_layer_are_those_that_were_noted(facts: LayerFacts) -> None:
    """Also those that a damaged journal says."""
    layers = KnownLayers()
    layers["a"] = FACTS
    layers["a"] = facts
    assert (layers["a"], layers.get("b"), [*layers], "a" in layers, "b" in layers) == (
        facts, None, ["a"], True, False,
    )  # fmt: skip
    layers.update({"b": facts})
    del layers["a"]
    assert [*layers.items()] == [("b", facts)]
    layers.clear()
    assert len(layers) == 0
