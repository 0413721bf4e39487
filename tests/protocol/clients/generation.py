"""Releases of Docker, and what each knew: the little that tells one generation's requests from another's."""

from typing import NamedTuple

#: What Go's own client called itself; Docker's pings used it up to 1.5.
GO_AGENT = "Go 1.1 package http"


class Generation(NamedTuple):
    """One release of Docker."""

    version: str

    def since(self, *release: int) -> bool:
        """Tell whether this is *release* or a later one."""
        return tuple(map(int, self.version.split("."))) >= release

    @property
    def agent(self) -> str:
        """The ``User-Agent`` of all but pings; up to 0.9 it ends in a space."""
        base = f"docker/{self.version} go/go1.4.3 git-commit/oldclnt kernel/3.13.0-32-generic"
        if not self.since(0, 9):
            return f"{base} "
        return f"{base} os/linux arch/amd64" + ("" if self.since(0, 10) else " ")

    @property
    def ping_agent(self) -> str:
        """The ``User-Agent`` of pings."""
        return self.agent if self.since(1, 6) else GO_AGENT


#: Releases that push over V1, whatever else a registry speaks: every generation before V2.
V1_RELEASES = tuple(map(Generation, ("0.6.0", "0.7.6", "0.9.1", "1.0.1", "1.2.0", "1.4.1", "1.5.0")))
#: Releases that push signed schema 1.
SCHEMA1_RELEASES = tuple(map(Generation, ("1.6.2", "1.7.1", "1.8.3", "1.9.1")))
#: The first release that pushes schema 2.
FIRST_SCHEMA2 = Generation("1.10.3")
