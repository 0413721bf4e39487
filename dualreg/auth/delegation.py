"""Delegation: permission rules that accounts with the action ``manage`` change within their patterns.

The rules of that, which ``docs/access.md`` explains:

- a rule belongs to a manager if every name that its pattern matches matches one of the manager's patterns;
- a manager may give and take pull, push and delete there, and ``admin`` where it has that; ``manage`` never,
  so no manager makes another one;
- it may give to accounts and groups that exist, pull to every account (``authenticated``), and nothing to
  clients without an account.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dualreg.auth.access import EVERYBODY, MANAGE, Action, Identity
from dualreg.auth.accounts import Accounts
from dualreg.auth.permissions import ACCOUNT, RuleLookup, own_patterns, parse_rule
from dualreg.catalog.rows import PermissionRow
from dualreg.errors import NotAllowed, RequestInvalid
from dualreg.patterns import within

_GIVEN = frozenset({Action.PULL, Action.PUSH, Action.DELETE})


@dataclass(frozen=True)
class Delegation:
    """What managers may change.

    Attributes:
        rules: Those that are in effect.
        knows: Returns whether an account exists.
        groups: Those that workloads get; others are in the catalog.
        file: The file with the rules that are in effect; empty: those in the catalog are.
    """

    accounts: Accounts
    rules: RuleLookup
    knows: Callable[[str], bool]
    groups: frozenset[str] = frozenset()
    file: str = ""

    def patterns(self, identity: Identity) -> Sequence[str]:
        """Return the patterns that the identity manages; with a key that is limited, none."""
        return () if identity.limits is not None else own_patterns(identity, self.rules, MANAGE)

    def administers(self, identity: Identity) -> bool:
        """Return whether the identity is an administrator: it has ``admin`` and ``manage`` on ``*``.

        With a key that is limited, it is none.
        """
        needed = (Action.ADMIN, MANAGE)
        return identity.limits is None and all(
            "*" in own_patterns(identity, self.rules, action) for action in needed
        )

    def lines(self, identity: Identity) -> Sequence[PermissionRow]:
        """Return the rules within these patterns, by who and pattern."""
        own = self.patterns(identity)
        return [rule for rule in self.accounts.rules() if _is_within(rule.pattern, own)]

    def grant(self, identity: Identity, who: str, pattern: str, actions: Sequence[str]) -> PermissionRow:
        """Add actions to a rule, or create it; return the whole rule.

        Raises:
            NotAllowed: the identity may not give that.
            RequestInvalid: one of the parts is invalid, or rules are in a file.
        """
        rule = self._checked(identity, who, pattern, actions)
        self._require_recipient(rule)
        return self.accounts.grant(who, pattern, ",".join(sorted(rule.actions)))

    def revoke(
        self, identity: Identity, who: str, pattern: str, actions: Sequence[str]
    ) -> PermissionRow | None:
        """Remove actions from a rule; return the rest of it, None if it is gone.

        Args:
            actions: Empty: all of the rule.

        Raises:
            NotAllowed: the identity may not take that away.
            RequestInvalid: one of the parts is invalid, there is no such rule, or rules are in a file.
        """
        known = [rule for rule in self.lines(identity) if (rule.who, rule.pattern) == (who, pattern)]
        wanted = actions or sorted(known[0].actions if known else [Action.PULL])
        rule = self._checked(identity, who, pattern, wanted)
        try:
            return self.accounts.ungrant(who, pattern, ",".join(sorted(rule.actions)))
        except ValueError as error:
            raise RequestInvalid(reason=str(error)) from error

    def _checked(self, identity: Identity, who: str, pattern: str, actions: Sequence[str]) -> PermissionRow:
        """Return a rule if the identity may change it."""
        if self.file:
            raise RequestInvalid(reason="the permission rules of this registry are in a file")
        try:
            rule = parse_rule(who, pattern, ",".join(actions))
        except ValueError as error:
            raise RequestInvalid(reason=str(error)) from error
        own = self.patterns(identity)
        if not _is_within(pattern, own):
            managed = f"you manage {', '.join(own)}" if own else "you do not have the action manage"
            raise NotAllowed(reason=f"{pattern} is not within a pattern that you manage: {managed}")
        if MANAGE in rule.actions:
            raise NotAllowed(reason="only the operator gives and takes manage")
        if refused := rule.actions - _GIVEN - self._own_admin(identity, pattern):
            raise NotAllowed(reason=f"you do not have {min(refused)} on {pattern}")
        return rule

    def _own_admin(self, identity: Identity, pattern: str) -> frozenset[str]:
        own = own_patterns(identity, self.rules, Action.ADMIN)
        return frozenset({Action.ADMIN}) if _is_within(pattern, own) else frozenset()

    def _require_recipient(self, rule: PermissionRow) -> None:
        """Raise NotAllowed unless managers may give the rule to whom it is for."""
        who = rule.who
        if who == "anonymous" or (who in EVERYBODY and rule.actions != {Action.PULL}):
            raise NotAllowed(reason=f"only the operator gives {', '.join(sorted(rule.actions))} to {who}")
        if who.startswith("@"):
            known = who[1:] in self.groups or any(who[1:] == name for name, _ in self.accounts.memberships())
        else:
            known = who in EVERYBODY or self.knows(who)
        if not known:
            raise RequestInvalid(reason=f"there is no {'group' if who.startswith('@') else 'account'} {who}")


def _is_within(pattern: str, own: Sequence[str]) -> bool:
    """Return whether all names that a rule's pattern can mean are within one of the patterns *own*."""
    return any(within(pattern.replace(ACCOUNT, "*"), each) for each in own)
