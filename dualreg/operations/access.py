"""Permission rules, and what they decide."""

from collections.abc import Sequence
from dataclasses import dataclass

from dualreg.auth.access import ANONYMOUS, EVERYBODY, Action, Identity
from dualreg.auth.permissions import ACTIONS, matching_rule
from dualreg.auth.workloads import parse_workload_rules
from dualreg.catalog.rows import PermissionRow
from dualreg.image.names import RepositoryName
from dualreg.operations.accounts import knows
from dualreg.operations.session import Group


@dataclass(frozen=True, slots=True)
class GrantedRule:
    """A permission rule, as it is now.

    Attributes:
        missing: The account or group that it is for, with what to do, if that does not exist; else empty.
        is_in_effect: Whether the registry has accounts, so that rules count.
    """

    rule: PermissionRow
    missing: str
    is_in_effect: bool


@dataclass(frozen=True, slots=True)
class RevokedRule:
    """What is left of a permission rule.

    Attributes:
        rule: Null: it is gone.
    """

    rule: PermissionRow | None


@dataclass(frozen=True, slots=True)
class ListedRules:
    """The permission rules of the catalog, by who and pattern.

    Attributes:
        file: The file with the rules in effect, so that these are ignored; null: these are in effect.
    """

    rules: Sequence[PermissionRow]
    file: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an action is allowed.

    Attributes:
        line: The rule that allows it; null: none does.
        reason: Why, in a few words.
    """

    allowed: bool
    line: str | None
    reason: str


def rule_text(rule: PermissionRow) -> str:
    """Return a rule in one line."""
    return f"{rule.who} {rule.pattern} {rule_actions(rule)}"


def rule_actions(rule: PermissionRow) -> str:
    """Return the actions of a rule, separated by commas."""
    return ",".join(action for action in ACTIONS if action in rule.actions)


@dataclass(frozen=True)
class AccessRules(Group):
    """Permission rules."""

    def grant(self, who: str, pattern: str, actions: str) -> GrantedRule:
        """Allow actions on repositories that match a pattern.

        Args:
            who: An account, @GROUP, authenticated, or anonymous.
            pattern: Of repositories, in which * matches anything and {account} is the name of the account.
            actions: Of pull, push, delete, admin and manage, separated by commas.

        Raises:
            ValueError: a part is invalid, or the rules in effect are in a file.
        """
        self._require_catalog_rules()
        rule = self.session.accounts().grant(who, pattern, actions)
        self.session.record("access grant", who=who, pattern=pattern, actions=actions)
        return GrantedRule(rule, self._missing(who), self.session.settings.auth != "none")

    def revoke(self, who: str, pattern: str, actions: str | None = None) -> RevokedRule:
        """Remove actions, or all actions, from a rule.

        Args:
            who: As in the rule.
            pattern: As in the rule.
            actions: Separated by commas; null: all.

        Raises:
            ValueError: there is no such rule, or the rules in effect are in a file.
        """
        self._require_catalog_rules()
        left = self.session.accounts().ungrant(who, pattern, actions)
        self.session.record("access revoke", who=who, pattern=pattern, actions=actions or "all")
        return RevokedRule(left)

    def list(self) -> ListedRules:
        """List the permission rules."""
        file = self.session.settings.permissions
        return ListedRules(self.session.accounts().rules(), str(file) if file else None)

    def explain(self, who: str, repository: RepositoryName, action: Action) -> Decision:
        """Explain whether an action on a repository is allowed, and by which rule.

        Args:
            who: An account, @GROUP, authenticated, or anonymous.
            action: One of pull, push, delete and admin.
        """
        mode = self.session.settings.auth
        rule = matching_rule(self._identity(who), self.session.authority().rules, repository, action)
        person = who not in EVERYBODY and not who.startswith("@")
        if mode == "token" and person:
            rule = None  # rules apply to anonymous and to workloads only
        match mode:
            case "none":
                reason = "auth = none allows everything"
            case "token" if person:
                reason = "with auth = token, the tokens of the issuer decide for accounts, not the rules"
            case _:
                reason = f"by the rule {rule_text(rule)}" if rule else "no rule allows it"
        if person and mode != "token" and not knows(self.session, who):
            reason += f" (there is no account {who})"
        return Decision(rule is not None or mode == "none", rule_text(rule) if rule else None, reason)

    def _require_catalog_rules(self) -> None:
        """Check that the rules in effect are in the catalog.

        Raises:
            ValueError: they are in a file, so that those in the catalog are ignored.
        """
        if file := self.session.settings.permissions:
            raise ValueError(f"the permission rules in effect are those in {file}; edit that file instead")

    def _missing(self, who: str) -> str:
        """Return the account or group that a rule is for, with what to do, if it does not exist."""
        settings = self.session.settings
        if who in EVERYBODY:
            return ""
        if who.startswith("@"):
            groups = {name for name, _ in self.session.accounts().memberships()}
            groups |= {rule.group for rule in parse_workload_rules(settings.oidc_rules)}
            hint = "add accounts to it with `dualreg group add`"
            return "" if who[1:] in groups else f"group {who} yet; {hint}"
        return "" if settings.auth == "token" or knows(self.session, who) else f"account {who} yet"

    def _identity(self, who: str) -> Identity:
        if who == "anonymous":
            return ANONYMOUS
        if who.startswith("@"):
            return Identity(who, frozenset({who[1:]}))
        with self.session.accounts().catalog.read() as tx:
            return Identity(who, tx.accounts.groups(who))
