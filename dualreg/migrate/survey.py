"""Helpers of the surveys."""

from collections.abc import Iterable

from dualreg.migrate.findings import Finding, FindingKind
from dualreg.migrate.sources.base import SourceTag


def split_findings(listed: Iterable[SourceTag | Finding]) -> tuple[list[SourceTag], list[Finding]]:
    """Return the tags and the findings of a source's listing, each in its order."""
    tags, findings = list[SourceTag](), list[Finding]()
    for each in listed:
        if isinstance(each, Finding):
            findings.append(each)
        else:
            tags.append(each)
    return tags, findings


def count_repositories(tags: Iterable[SourceTag], findings: Iterable[Finding]) -> int:
    """Return the number of repositories, including those without tags."""
    empty = {finding.where for finding in findings if finding.kind is FindingKind.EMPTY}
    return len({tag.repository for tag in tags} | empty)
