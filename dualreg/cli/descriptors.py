"""Descriptors: how many files and connections a process may have open, and who gets them."""

import resource

#: Files that a process has open beside those of its threads: listeners, logs, pipes, modules.
_OWN = 64
#: Files that a thread has open at most: its client's connection, a database with its log and index, a blob
#: that is read or written, the folder that is synced, and the source of a copy.
_PER_THREAD = 8


def raise_limit() -> int:
    """Raise the limit of open files as far as this process may, also for its children; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def waiting_connections(most: int, threads: int) -> int:
    """Return how many connections may wait in a process, so that its *threads* can open what they need.

    Args:
        most: Returned unless the limit of open files is too low for it.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(min(most, soft - needed(0, threads)), 1)


def needed(connections: int, threads: int) -> int:
    """Return how many open files a process needs for so many waiting connections and threads."""
    return connections + _OWN + threads * _PER_THREAD
