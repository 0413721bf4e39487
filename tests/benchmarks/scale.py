"""``python -m tests.benchmarks.scale``: measure what requests cost, and calculate what many of them need.

Instances share the database and the object store only, so a request costs as much on one of many as on one.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dualreg.settings import Settings
from tests.benchmarks.costs import BLOB, DIGEST, HEAD, PUSH, TAG, VERSION, Cost, bytes_of_a_blob, costs
from tests.benchmarks.filling import say
from tests.benchmarks.report import figure, table

_MICRO, _KILO, _DAY = 1e6, 1000, 86_400
#: Of all processors, the share that may be in use.
_USED = 0.6
#: Processors of an instance, each of which runs a process, and the connections to the database of that.
_CORES, _CONNECTIONS = 4, Settings().database_connections
#: US dollars at Amazon's list prices, us-east-1, 2025: of 1,000 reads and writes, and of a GB for a month.
_READ, _WRITE, _STORED = 0.0004, 0.005, 0.021


@dataclass(frozen=True, slots=True)
class Demand:
    """What all clients do together.

    Attributes:
        pulls: A second.
        unchanged: The share of pulls that find out, by one HEAD, that they have the image already.
        layers: That other pulls lack, on average; they also get an index, a manifest and a config.
        pushes: Of images a second.
        blobs: In the registry.
        size: Bytes of a blob, on average.
    """

    pulls: float
    unchanged: float
    layers: float
    pushes: float
    blobs: float
    size: float

    @property
    def requests(self) -> dict[str, float]:
        """Requests a second, by kind."""
        changed = self.pulls * (1 - self.unchanged)
        return {
            VERSION: self.pulls,
            HEAD: self.pulls * self.unchanged,
            TAG: changed,
            DIGEST: changed,
            BLOB: changed * (self.layers + 1),
            PUSH: self.pushes,
        }

    @property
    def sent(self) -> float:
        """Bytes of layers a second."""
        return self.pulls * (1 - self.unchanged) * self.layers * self.size


def main() -> None:
    """Measure, calculate, and print both."""
    options = _options()
    found, row = costs(options.seconds), bytes_of_a_blob(options.images)
    rows = [["request", "instance", "database", "log", "reads", "writes"]]
    for kind, cost in found.items():
        amounts = (cost.instance, cost.database, cost.logged, cost.reads, cost.writes)
        rows.append([kind, *(figure(amount) for amount in amounts)])
    say("\n".join(table(rows, words=1)))
    say("processor time in microseconds, bytes of the database's log, requests to the object store")
    say(f"{row:,.0f} bytes of the database for each blob")
    given = (options.pulls, options.unchanged, options.layers, options.pushes, options.blobs, options.size)
    for line in calculation(Demand(*given), found, row):
        say(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=main.__doc__)
    add = parser.add_argument
    add("--pulls", type=float, default=1e4, help="a second")
    add("--unchanged", type=float, default=0.8, help="share of pulls that find nothing new")
    add("--layers", type=float, default=6, help="that other pulls lack, on average")
    add("--pushes", type=float, default=20, help="of images a second")
    add("--blobs", type=float, default=1e9, help="in the registry")
    add("--size", type=float, default=10e6, help="bytes of a blob, on average")
    add("--seconds", type=float, default=3, help="of load for each kind of request")
    add("--images", type=int, default=100_000, help="in the database of which the size is measured")
    return parser.parse_args()


def calculation(demand: Demand, found: Mapping[str, Cost], row: float) -> Iterator[str]:
    """Yield lines that say what the demand needs.

    Args:
        found: What each kind of request costs.
        row: Bytes of the database for each blob.
    """
    requests = demand.requests

    def total(of: Callable[[Cost], float]) -> float:
        return sum(rate * of(found[kind]) for kind, rate in requests.items())

    instances = math.ceil(total(lambda cost: cost.instance) / _MICRO / _USED / _CORES)
    database = total(lambda cost: cost.database) / _MICRO / _USED
    logged = size(total(lambda cost: cost.logged))
    # Clients ask the object store, too.
    reads, writes = total(lambda cost: cost.reads) + requests[BLOB], total(lambda cost: cost.writes)
    stored = demand.blobs * demand.size
    month = 30 * _DAY / 1000
    bill = month * reads * _READ, month * writes * _WRITE, stored / _KILO**3 * _STORED
    yield f"{demand.pulls:,.0f} pulls/s, {demand.unchanged:.0%} of what clients have; others lack "
    yield f"{demand.layers:g} layers; {demand.pushes:g} pushes/s; {demand.blobs:,.0f} blobs:"
    yield f"  requests: {sum(requests.values()):,.0f}/s"
    yield f"  instances: {instances}, of {_CORES} processors, {_USED:.0%} in use"
    yield f"  database: {database:.1f} processors, {_USED:.0%} in use; {size(demand.blobs * row)}; "
    yield f"    log {logged}/s; {instances * _CORES * _CONNECTIONS} connections"
    yield f"  object store: {size(stored)}; {reads:,.0f} reads/s, {writes:,.0f} writes/s, "
    yield f"    {size(demand.sent)}/s to clients"
    yield "  30 days at Amazon's list prices, without traffic: ${:,.0f} reads, ${:,.0f} writes, ".format(
        *bill
    )
    yield f"    ${bill[2]:,.0f} storage"


def size(number: float) -> str:
    """Return bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < _KILO:
            return f"{number:.3g} {unit}"
        number /= _KILO
    return f"{number:.3g} PB"


if __name__ == "__main__":
    main()
