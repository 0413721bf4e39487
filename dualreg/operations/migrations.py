"""Migrations: runs of ``dualreg migrate``, which are begun on the machine of the registry."""

from dataclasses import dataclass

from dualreg.migrate.states import ListedRun, RunState, list_runs, run_state
from dualreg.operations.session import Group, Listing, page_size


@dataclass(frozen=True)
class Migrations(Group):
    """Runs of migrations."""

    def runs(self, *, n: int = 20, after: str = "") -> Listing[ListedRun]:
        """List runs of migrations with how far they are, the newest first.

        Of long runs, only the last part of the journal is counted.

        Args:
            n: The length of the page.
            after: The last one of the page before.
        """
        folder = self.session.settings.journals
        return Listing(*list_runs(folder, before=after, limit=page_size(n)))

    def status(self, run: str) -> RunState:
        """Show how far a run is, what it left out for which reasons, and what to do about that.

        Args:
            run: Its name, as listed.

        Raises:
            ValueError: there is no such run.
        """
        return run_state(self.session.settings.journals, run)
