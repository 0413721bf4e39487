"""Python and SQL read patterns alike."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from dualreg.image.names import RepositoryName
from dualreg.patterns import LIKE_ESCAPE, Reach, matches, to_like, within
from tests.properties.registries import fresh_registry

_NAMES = st.text("ab/-_.", max_size=12)
_PATTERNS = st.text("ab/-_.*", max_size=12)


@given(_PATTERNS, _NAMES)
def test_patterns_are_a_part_of_shell_patterns(pattern: str, name: str) -> None:
    """The standard library agrees about all that is accepted."""
    assert matches(pattern, name) is fnmatchcase(name, pattern)


@pytest.mark.slow
@settings(max_examples=300)
@given(_PATTERNS, _PATTERNS, st.lists(_NAMES, max_size=6))
@example("a*b", "a*", ["", "x"])
@example("*a*", "*", ["b"])
@example("a*b*a", "a*a", ["", "b"])
@example("**", "*", ["a"])
@example("a*", "a*b", ["b", ""])
def test_what_is_within_a_pattern_matches_it(inner: str, outer: str, texts: list[str]) -> None:
    """Every text that the inner one matches; if it is not within, one of them is not matched."""
    pieces = iter([*texts, *["b"] * inner.count("*")])
    name = "".join(next(pieces) if each == "*" else each for each in inner)
    assert matches(inner, name)
    if within(inner, outer):
        assert matches(outer, name)
        return
    beyond = inner.replace("*", "x")  # which no pattern here contains
    assert matches(inner, beyond)
    assert not matches(outer, beyond)


@given(_PATTERNS, _PATTERNS, _PATTERNS)
def test_being_within_is_an_order(first: str, second: str, third: str) -> None:
    """Each is within itself and ``*``, and what is within something that is within another is within that."""
    assert within(first, first)
    assert within(first, "*")
    if within(first, second) and within(second, third):
        assert within(first, third)


@given(st.text("ab/_%!*\\'", max_size=8), st.text("ab/_%!*\\'", max_size=8))
@example("a%*", "abc")
@example("!*", "*")
def test_like_agrees(pattern: str, text: str) -> None:
    """Also about what SQL takes for special."""
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        found = connection.scalar(select(literal(text).like(to_like(pattern), escape=LIKE_ESCAPE)))
    engine.dispose()
    assert bool(found) is matches(pattern, text)


@pytest.mark.slow
@settings(deadline=None)  # a registry for every example
@given(
    st.lists(st.lists(_PATTERNS, max_size=2).map(tuple), max_size=2).map(tuple), st.sets(_NAMES, max_size=4)
)
def test_the_catalog_agrees(groups: tuple[tuple[str, ...], ...], names: set[str]) -> None:
    """What SQL lists is what ``covers`` says, underscores and all."""
    reach = Reach(groups)
    with fresh_registry() as registry, registry.state.catalog.begin() as tx:
        for name in names:
            tx.repositories.ensure(RepositoryName(name))
        listed = [name for name, _ in tx.repositories.walk(last="", limit=99, reach=reach)]
    assert listed == sorted(name for name in names if name and reach.covers(name))
