"""Retention of all repositories: what no rule keeps is deleted in small steps, while serving.

Each repository is read once, the tags pushed last first. So neither memory nor a transaction grows with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualreg.catalog.dialects import batches
from dualreg.catalog.retention import RetainedRepository
from dualreg.image.names import RepositoryName
from dualreg.registry import Registry
from dualreg.registry.retention import JudgedTags
from dualreg.registry.verdicts import Verdict

#: Tags in one transaction, which lasts milliseconds.
_STEP = 64
#: Called with the repositories that are done since the last call, and the tags that were deleted.
Advance = Callable[[int, int], object]


@dataclass
class Retained:
    """What a run has done, or would do.

    Attributes:
        repositories: How many a rule is for.
        tags: How many tags they had.
        deleted: How many of them were deleted, or would be.
        changed: How many stay until the next run, because they, or newer ones, changed during this one.
        complete: Whether the run has seen all repositories.
    """

    repositories: int = 0
    tags: int = 0
    deleted: int = 0
    changed: int = 0
    complete: bool = True


@dataclass(frozen=True)
class RetentionRun:
    """One run.

    Attributes:
        pattern: Only the repositories that match it.
        dry_run: Delete nothing.
        deleted: Called with the tags of a repository that were deleted, or would be, and why.
        advance: Says how far the run is.
        pace: Called before each step with the number of tags in it; False ends the run.
    """

    registry: Registry
    pattern: str = "*"
    dry_run: bool = False
    deleted: Callable[[RepositoryName, Sequence[Verdict]], object] = lambda *_: None
    advance: Advance = lambda *_: None
    pace: Callable[[int], bool] = lambda _: True

    def run(self) -> Retained:
        """Delete what goes."""
        result, retention = Retained(), self.registry.retention
        rules = retention.rules()
        for page in retention.repositories() if rules else ():
            before = result.deleted
            for repository in page:
                if not retention.applies(repository, rules, self.pattern):
                    continue
                result.repositories += 1
                if not all(
                    self._apply(repository, judged, result) for judged in retention.judge(repository, rules)
                ):
                    result.complete = False
                    return result
            self.advance(len(page), result.deleted - before)
            if not self.pace(0):
                result.complete = False
                return result
        return result

    def _apply(self, repository: RetainedRepository, judged: JudgedTags, result: Retained) -> bool:
        """Delete those of some tags that go; return False if the run was ended."""
        result.tags += len(judged.verdicts)
        for batch in batches([each for each in judged.verdicts if each.goes], _STEP):
            if not self.pace(len(batch)):
                return False
            gone = [*batch]
            if not self.dry_run:
                tags = [each.tag for each in batch]
                deleted = self.registry.retention.delete(repository.name, tags, judged.newest)
                gone = [each for each in batch if each.tag.name in deleted]
            result.deleted += len(gone)
            result.changed += len(batch) - len(gone)
            if gone:
                self.deleted(repository.name, gone)
        return self.pace(0)
