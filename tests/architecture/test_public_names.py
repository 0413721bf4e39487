"""What scripts and operators rely on stays: names of options, settings, keys and columns."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.public import public_names

LIST = Path(__file__).with_name("public_names.json")


def flat(value: object, path: str = "") -> Iterator[str]:
    """Yield a line for each name: where it stands, and itself."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{path}{name}"
            yield from flat(below, f"{path}{name}: ")
    elif isinstance(value, list):
        yield from (f"{path}{name}" for name in value)


@pytest.mark.slow
def test_public_names_are_those_of_the_list(tmp_path: Path) -> None:
    """Nothing is missing, and nothing is new without a word in the changelog."""
    found, listed = {*flat(public_names(tmp_path))}, {*flat(json.loads(LIST.read_text()))}
    gone = sorted(listed - found)
    assert not gone, (
        f"{gone} gone: scripts rely on public names. If that is wanted, say so in CHANGELOG.md under "
        f"Changed, and take them out of {LIST.name}."
    )
    new = sorted(found - listed)
    assert not new, f"{new} new: add a line to CHANGELOG.md, and the names to {LIST.name}."
