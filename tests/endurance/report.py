"""What a run found, as text."""

from tests.endurance.run import Plan, Result


def text(plan: Plan, result: Result) -> str:
    """Return the result of *plan* in lines."""
    catalog = "PostgreSQL" if plan.postgresql else "SQLite"
    surplus = 100 * (result.end / result.alive - 1) if result.alive else float("nan")
    lines = [
        f"{plan.seconds / 60:g} minutes; {plan.clients} clients; {plan.workers} workers; {catalog}",
        f"grace: {plan.grace} s; seconds between kills: {plan.kill_every:g}; seed: {plan.seed}",
        f"requests: {result.requests}; sent: {_size(result.sent)}; received: {_size(result.received)}",
        f"acts: {sum(result.acts.values())}",
        *(f"  {name}: {count}" for name, count in sorted(result.acts.items())),
        f"processes killed: {result.kills}; acts repeated after that: {result.retried}",
        f"pushes repeated because they took longer than half the grace: {result.late}",
        f"disk: at most {_size(result.peak)}; at the end {_size(result.end)} ({surplus:+.2f} %)",
        f"alive: {_size(result.alive)}; seconds until the disk had come back: {result.waited:.0f}",
        f"errors: {len(result.failures)}; wrong bytes: {len(result.wrong)}",
        *(f"  {finding}" for finding in (*result.failures, *result.wrong)[:50]),
    ]
    return "".join(f"{line}\n" for line in lines)


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
