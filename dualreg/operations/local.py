"""Commands that only run on the machine of the registry, and why."""

from collections.abc import Mapping

from dualreg.operations.table import OPERATIONS

_FILES = "it reads or writes files of the machine"
_STOPPED = "it works on the catalog or the store themselves, whether or not the registry is serving"
_LONG = "it takes long, and prints what it finds as it goes; run it there"

#: Commands, or groups of them, and why they do not run on a server.
LOCAL: Mapping[str, str] = {
    "serve": "it is the server",
    "follow": "it is a server",
    "health": "it asks the server of the machine",
    "config": "it shows the settings of the machine; they are not changed while it serves",
    "client-config": "it prints what follows from the settings of the machine",
    "login": "it writes the configuration of docker on the machine",
    "db": _STOPPED,
    "store": _STOPPED,
    "fsck": f"{_LONG}, or run `dualreg tasks run scrub`",
    "backup": _FILES,
    "restore": _FILES,
    "migrate inspect": _FILES,
    "migrate plan": _FILES,
    "migrate report": _FILES,
    "migrate rollback": _FILES,
    "migrate run": _FILES,
    "migrate verify": _FILES,
    "mirror": f"{_LONG}, or run `dualreg tasks run mirror/NAME`",
    "export": _FILES,
    "derive": _LONG,
    "gc": f"{_LONG}, or run `dualreg tasks run gc`",
    "retention run": f"{_LONG}, or run `dualreg tasks run retention`",
    "webhook deliver": "it delivers for as long as it runs; a server does so by itself",
}


def why_local(command: str) -> str | None:
    """Return why a command, or a group, does not run on a server; None: it does."""
    for each in OPERATIONS:
        if f"{each.command} ".startswith(f"{command} "):
            return None
    parents = command.split()
    prefixes = (" ".join(parents[:end]) for end in range(len(parents), 0, -1))
    return next((LOCAL[each] for each in prefixes if each in LOCAL), "the API does not offer it")
