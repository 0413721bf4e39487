"""Python and SQL read patterns alike."""

from fnmatch import fnmatchcase

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine, literal, select

from dualreg.image.names import RepositoryName
from dualreg.patterns import LIKE_ESCAPE, Reach, matches, to_like
from tests.properties.registries import fresh_registry

_NAMES = st.text("ab/-_.", max_size=12)
_PATTERNS = st.text("ab/-_.*", max_size=12)


@given(_PATTERNS, _NAMES)
def test_patterns_are_a_part_of_shell_patterns(pattern: str, name: str) -> None:
    """The standard library agrees about all that is accepted."""
    assert matches(pattern, name) is fnmatchcase(name, pattern)


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
