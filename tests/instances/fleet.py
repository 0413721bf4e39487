"""Instances of ``dualreg serve`` behind one nginx that gives each request to another one.

They share a PostgreSQL database, and a bucket of a real S3 server or a folder. Each has a data folder of its
own, as on a machine of its own.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.contracts.postgresql import migrated_postgresql
from tests.contracts.radosgw import s3_bucket, settings_of
from tests.nginx.site import BETWEEN, nginx_site
from tests.programs import Serving, dualreg_process


@dataclass(frozen=True)
class Fleet:
    """Running instances.

    Attributes:
        host: Where nginx listens, HOST:PORT.
        instances: In the order of their turns.
        settings: What all of them have in common.
        folder: Has the data folder of each, ``data0`` and so on.
    """

    host: str
    instances: list[Serving]
    settings: Mapping[str, str | int]
    folder: Path

    def counts(self) -> list[int]:
        """Return how many requests each instance has answered."""
        return [each.log.read_text().count('HTTP/1.1" ') for each in self.instances]

    def environment(self, number: int = 0) -> dict[str, str]:
        """Return what a command needs to run beside an instance."""
        given = self.settings | {"data": f"{self.folder}/data{number}"}
        return {f"DUALREG_{name.upper()}": f"{value}" for name, value in given.items()}


@contextmanager
def shared_storage(kind: str, folder: Path) -> Iterator[dict[str, str | int]]:
    """Yield the settings of an empty store and a database that instances share, for the block.

    Args:
        kind: ``folder`` or ``bucket``.
    """
    with ExitStack() as stack:
        database = stack.enter_context(migrated_postgresql())
        if kind == "folder":
            yield {"database": database, "store": (folder / "store").as_uri(), "x_accel_prefix": "/_blobs"}
            return
        yield {"database": database, **settings_of(stack.enter_context(s3_bucket()))}


@contextmanager
def fleet(
    folder: Path,
    certificate: Path,
    settings: Mapping[str, str | int],
    *,
    wrappers: Sequence[Sequence[str]] = ((), (), ()),
    fresh: bool = False,
) -> Iterator[Fleet]:
    """Run an instance for each of *wrappers*, which are commands that are given ours to run, and nginx.

    Args:
        fresh: See ``tests.programs.start``.
    """
    chosen: dict[str, str | int] = {"workers": 1, "audit": "off", **settings}
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                dualreg_process(folder / f"data{number}", wrapper=wrapper, fresh=fresh, **chosen)
            )
            for number, wrapper in enumerate(wrappers)
        ]
        upstream = BETWEEN.join(each.host for each in started)
        files = folder / "store"
        site = nginx_site("dualreg.conf", folder / "nginx", certificate, upstream, files)
        yield Fleet(stack.enter_context(site).plain, started, chosen, folder)
    shutil.rmtree(folder / "store", ignore_errors=True)
