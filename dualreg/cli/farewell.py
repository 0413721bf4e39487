"""What ``dualreg clients --summary`` prints: how far the move away from V1 has come."""

from collections.abc import Sequence

from dualreg.catalog.clients import ClientGroup
from dualreg.cli.output import echo, echo_json, minute, table
from dualreg.registry.farewell import Farewell

#: Characters of the longest bar.
_WIDTH = 40


def print_farewell(found: Farewell, *, as_json: bool) -> None:
    """Print it as tables and sentences, or as JSON."""
    if as_json:
        echo_json(found)
        return
    most = max(1, *(week.clients for week in found.weeks))
    bars = [
        (f"{w.begin:%Y-%m-%d}", str(w.clients), "#" * round(_WIDTH * w.clients / most)) for w in found.weeks
    ]
    table(("WEEK", "CLIENTS", ""), bars)
    for heading, groups in (
        ("VERSION", found.versions),
        ("ADDRESS", found.addresses),
        ("REPOSITORY", found.repositories),
    ):
        _print_groups(heading, groups)
    for name in found.more:
        echo(f"There are more {name}; only those seen last are shown.")
    for sentence in found.evidence:
        echo(sentence)
    if found.step:
        verdict = "is safe" if found.safe else "is not safe yet"
        echo(f"Switching V1 to {found.step} {verdict}. To do it, run `dualreg v1 set {found.step}`.")


def _print_groups(heading: str, groups: Sequence[ClientGroup]) -> None:
    rows = [
        (each.name or "-", str(each.addresses), minute(each.last_seen), str(each.requests), str(each.refused))
        for each in groups
    ]
    table((heading, "ADDRESSES", "LAST SEEN", "REQUESTS", "REFUSED"), rows)
