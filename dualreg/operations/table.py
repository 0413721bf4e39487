"""The table of operations: where each is served, and what it requires; and the commands that have none."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self, get_type_hints

from dualreg.auth.access import Action
from dualreg.operations.access import AccessRules
from dualreg.operations.accounts import AccountChanges, GroupMembers
from dualreg.operations.audit import AuditLog
from dualreg.operations.immutable import ImmutableRules
from dualreg.operations.inspection import Images
from dualreg.operations.layers import Layers
from dualreg.operations.migrations import Migrations
from dualreg.operations.operation import Needs, Operation
from dualreg.operations.quotas import QuotaLimits
from dualreg.operations.repositories import RepositoryChanges
from dualreg.operations.retention import RetentionRules
from dualreg.operations.secrets import ApiKeys, Tokens
from dualreg.operations.service import Service
from dualreg.operations.session import Session
from dualreg.operations.tags import TagChanges
from dualreg.operations.tasks import TaskRuns
from dualreg.operations.usage import Usages
from dualreg.operations.v1 import V1Serving
from dualreg.operations.webhooks import WebhookChanges

OPERATIONS = (
    Operation("tag list", "GET", "/tags", TagChanges.list, Action.PULL),
    Operation("tag history", "GET", "/tags/history", TagChanges.history, Action.PULL),
    Operation("tag recent", "GET", "/tags/recent", TagChanges.recent, Needs.ACCOUNT),
    Operation("tag set", "POST", "/tags", TagChanges.set, Action.PUSH),
    Operation("tag restore", "POST", "/tags/restore", TagChanges.restore, Action.PUSH),
    Operation("tag restore", "POST", "/tags/several/restore", TagChanges.restore_several, Action.PUSH),
    Operation("tag delete", "DELETE", "/tags", TagChanges.delete, Action.DELETE),
    Operation("tag delete", "POST", "/tags/several/delete", TagChanges.delete_several, Action.DELETE),
    Operation("tag forget", "DELETE", "/tags/history", TagChanges.forget, Action.ADMIN),
    Operation("repository list", "GET", "/repositories", RepositoryChanges.list, Needs.ACCOUNT),
    Operation("repository tree", "GET", "/repositories/tree", RepositoryChanges.tree, Needs.ACCOUNT),
    Operation("repository show", "GET", "/repositories/unseen", RepositoryChanges.unseen, Action.PULL),
    Operation("repository delete", "DELETE", "/repositories", RepositoryChanges.delete, Action.ADMIN),
    Operation("repository restore", "POST", "/repositories/restore", RepositoryChanges.restore, Action.PUSH),
    Operation("image show", "GET", "/images", Images.show, Action.PULL),
    Operation("image compare", "GET", "/images/compare", Images.compare, Action.PULL),
    Operation("image faces", "GET", "/images/faces", Images.faces, Action.PULL),
    Operation("image files", "GET", "/images/files", Layers.files, Action.PULL),
    Operation("image diff", "GET", "/images/changes", Layers.changes, Action.PULL),
    Operation("images check", "GET", "/images/check", Images.check),
    Operation("why", "GET", "/images/why", Images.why, Action.PULL),
    Operation("usage", "GET", "/usage", Usages.repositories, Needs.ACCOUNT),
    Operation("usage", "GET", "/usage/namespaces", Usages.namespaces, Needs.ACCOUNT),
    Operation("usage", "GET", "/usage/overview", Usages.overview, Needs.ACCOUNT),
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
    Operation("account list", "GET", "/accounts", AccountChanges.list),
    Operation("account add", "POST", "/accounts", AccountChanges.add),
    Operation("account remove", "DELETE", "/accounts", AccountChanges.remove),
    Operation("account disable", "POST", "/accounts/disable", AccountChanges.disable),
    Operation("account enable", "POST", "/accounts/enable", AccountChanges.enable),
    Operation("account password", "POST", "/accounts/password", AccountChanges.set_password),
    Operation("account unlock", "POST", "/accounts/unlock", AccountChanges.unlock),
    Operation("account logins", "GET", "/accounts/logins", AccountChanges.logins),
    Operation("account logout", "POST", "/accounts/logout", AccountChanges.log_out),
    Operation("group list", "GET", "/groups", GroupMembers.list),
    Operation("group add", "POST", "/groups", GroupMembers.add),
    Operation("group remove", "DELETE", "/groups", GroupMembers.remove),
    Operation("key list", "GET", "/keys", ApiKeys.list),
    Operation("key add", "POST", "/keys", ApiKeys.add),
    Operation("key revoke", "DELETE", "/keys", ApiKeys.revoke),
    Operation("token list", "GET", "/tokens", Tokens.list),
    Operation("token revoke", "DELETE", "/tokens", Tokens.revoke),
    Operation("token rotate", "POST", "/tokens/rotate", Tokens.rotate),
    Operation("access list", "GET", "/access", AccessRules.list),
    Operation("access grant", "POST", "/access", AccessRules.grant),
    Operation("access revoke", "DELETE", "/access", AccessRules.revoke),
    Operation("access explain", "GET", "/access/explain", AccessRules.explain),
    Operation("webhook list", "GET", "/webhooks", WebhookChanges.list),
    Operation("webhook add", "POST", "/webhooks", WebhookChanges.add),
    Operation("webhook remove", "DELETE", "/webhooks", WebhookChanges.remove),
    Operation("webhook test", "POST", "/webhooks/test", WebhookChanges.test),
    Operation("webhook events", "GET", "/webhooks/events", WebhookChanges.events),
    Operation("webhook replay", "POST", "/webhooks/replay", WebhookChanges.replay),
    Operation("webhook retry", "POST", "/webhooks/retry", WebhookChanges.retry),
    Operation("tasks", "GET", "/tasks", TaskRuns.list),
    Operation("tasks run", "POST", "/tasks", TaskRuns.start),
    Operation("tasks preview", "GET", "/tasks/preview", TaskRuns.preview),
    Operation("audit", "GET", "/audit", AuditLog.read),
    Operation("clients", "GET", "/clients", Service.clients),
    Operation("clients", "GET", "/clients/farewell", Service.farewell),
    Operation("v1 show", "GET", "/v1", V1Serving.show),
    Operation("v1 set", "POST", "/v1", V1Serving.set),
    Operation("migrate runs", "GET", "/migrations", Migrations.runs),
    Operation("migrate status", "GET", "/migrations/run", Migrations.status),
    Operation("status", "GET", "/status", Service.status),
    Operation("growth", "GET", "/growth", Service.growth),
    Operation("upstreams", "GET", "/upstreams", Service.upstreams),
    Operation("inventory", "GET", "/inventory", Service.inventory),
    Operation("readonly status", "GET", "/readonly", Service.readonly),
    Operation("readonly on", "POST", "/readonly", Service.set_readonly, while_readonly=True),
    Operation("readonly off", "DELETE", "/readonly", Service.end_readonly, while_readonly=True),
)


@dataclass(frozen=True)
class Administration:
    """All groups of operations, of this machine or of a server."""

    tags: TagChanges
    usage: Usages
    immutable: ImmutableRules
    retention: RetentionRules
    quotas: QuotaLimits
    repositories: RepositoryChanges
    images: Images
    layers: Layers
    accounts: AccountChanges
    members: GroupMembers
    keys: ApiKeys
    tokens: Tokens
    access: AccessRules
    webhooks: WebhookChanges
    tasks: TaskRuns
    service: Service
    audit: AuditLog
    migrations: Migrations
    v1: V1Serving

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
