"""A legacy source is imported in the background by one instance for all."""

import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests import builders
from tests.contracts.postgresql import migrated_postgresql
from tests.migrate.trees import Tree
from tests.programs import children, dualreg_process, until
from tests.protocol.clients.wire import Wire

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_one_instance_imports(tmp_path: Path) -> None:
    """Another one goes on when it is killed."""
    tree = Tree(tmp_path / "old")
    for number in range(3):
        tree.tag("team/app", f"{number}", tree.image(f"{number}", builders.layer({"f": b"%d" % number})))
    with migrated_postgresql() as url, ExitStack() as stack:
        settings = {"database": url, "store": (tmp_path / "store").as_uri(), "audit": "off", "workers": 1}
        settings["legacy_source"] = f"v1-tree:{tree.root}"
        folders = [tmp_path / f"data{number}" for number in range(2)]
        started = [stack.enter_context(dualreg_process(folder, **settings)) for folder in folders]

        def has_tags(count: int) -> bool:
            """Return whether the registry has so many tags, without asking for one, which imports it."""
            answer = Wire(started[-1].host).send("GET", "/v2/team/app/_dualreg/tags")
            return answer.body.count(b'"digest"') == count

        def importing() -> list[bool]:
            """Return which instances have the journal of an import."""
            return [any((folder / "migrations").glob("*.jsonl")) for folder in folders]

        assert until(lambda: has_tags(3), 180)
        assert sorted(importing()) == [False, True]
        leader = started.pop(importing().index(True))
        main = leader.process.pid
        for pid in (*children(main), main):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        tree.tag("team/app", "3", tree.image("3", builders.layer({"f": b"3"})))
        assert until(lambda: has_tags(4), 180)
        assert importing() == [True, True]
