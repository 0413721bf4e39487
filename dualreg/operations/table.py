"""The table of operations: where each is served, and what it requires; and the commands that have none."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self, get_type_hints

from dualreg.auth.access import Action
from dualreg.operations.immutable import ImmutableRules
from dualreg.operations.operation import Needs, Operation
from dualreg.operations.quotas import QuotaLimits
from dualreg.operations.retention import RetentionRules
from dualreg.operations.session import Session
from dualreg.operations.tags import TagChanges
from dualreg.operations.usage import Usages

OPERATIONS = (
    Operation("tag list", "GET", "/tags", TagChanges.list, Action.PULL),
    Operation("tag history", "GET", "/tags/history", TagChanges.history, Action.PULL),
    Operation("tag set", "POST", "/tags", TagChanges.set, Action.PUSH),
    Operation("tag restore", "POST", "/tags/restore", TagChanges.restore, Action.PUSH),
    Operation("tag delete", "DELETE", "/tags", TagChanges.delete, Action.DELETE),
    Operation("usage", "GET", "/usage", Usages.repositories, Needs.ACCOUNT),
    Operation("usage", "GET", "/usage/namespaces", Usages.namespaces, Needs.ACCOUNT),
    Operation("usage", "GET", "/usage/total", Usages.total),
    Operation("immutable list", "GET", "/immutable", ImmutableRules.list),
    Operation("immutable add", "POST", "/immutable", ImmutableRules.add),
    Operation("immutable remove", "DELETE", "/immutable", ImmutableRules.remove),
    Operation("immutable explain", "GET", "/immutable/explain", ImmutableRules.explain, Action.PULL),
    Operation("retention list", "GET", "/retention", RetentionRules.list),
    Operation("retention add", "POST", "/retention", RetentionRules.add),
    Operation("retention remove", "DELETE", "/retention", RetentionRules.remove),
    Operation("retention explain", "GET", "/retention/explain", RetentionRules.explain, Action.PULL),
    Operation("quota list", "GET", "/quotas", QuotaLimits.list),
    Operation("quota set", "POST", "/quotas", QuotaLimits.set),
    Operation("quota remove", "DELETE", "/quotas", QuotaLimits.remove),
)


@dataclass(frozen=True)
class Administration:
    """All groups of operations, of this machine or of a server."""

    tags: TagChanges
    usage: Usages
    immutable: ImmutableRules
    retention: RetentionRules
    quotas: QuotaLimits

    @classmethod
    def over(cls, session: Session) -> Self:
        """Return the groups that work on the registry of *session*."""
        return cls(**{name: group(session) for name, group in groups().items()})


@cache
def groups() -> Mapping[str, type]:
    """Return the classes of the groups, by their names in ``Administration``."""
    return get_type_hints(Administration)


def run(operation: Operation, session: Session, arguments: Mapping[str, object]) -> object:
    """Return what an operation answers on the registry of *session*."""
    group = next(each for each in groups().values() if each.__name__ == operation.group)
    return operation.call(group(session), **arguments)
