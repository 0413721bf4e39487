"""External accounts: those of people who log in by an OpenID Connect issuer.

An account is bound to the subject by which the issuer knows somebody, not to a name: names change, and are
given to others. An issuer gives nobody an account that was there before, and no group that the operator has
not mapped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from dualreg.auth.accounts import is_account_name
from dualreg.auth.permissions import RuleLookup
from dualreg.catalog.database import Catalog
from dualreg.errors import LoginRefused

#: Characters of a subject.  Source: OpenID Connect Core 1.0, section 2.
_SUBJECT_LIMIT = 255
_PRINTED = 100


@dataclass(frozen=True)
class ExternalRules:
    """What the operator makes of an issuer's claims.

    Attributes:
        account_claim: The claim that new accounts are named after.
        prefix: What their names begin with.
        groups_claim: The claim that lists groups.
        groups: Our group for each of theirs; others are not taken over.
        allowed_groups: Groups of the issuer, of which somebody needs one; empty: none is needed.
        allowed_domains: Domains, in one of which somebody needs a verified e-mail address; likewise.
        renewal: For how long the account is valid after a login.
        granted_names: Whether a new account may have a name to which something was granted before.
    """

    account_claim: str
    prefix: str
    groups_claim: str
    groups: Mapping[str, str]
    allowed_groups: frozenset[str]
    allowed_domains: frozenset[str]
    renewal: timedelta
    granted_names: bool = False

    @property
    def claims(self) -> frozenset[str]:
        """The claims that are needed."""
        found = {self.account_claim}
        if self.groups or self.allowed_groups:
            found.add(self.groups_claim)
        if self.allowed_domains or self.account_claim == "email":
            found |= {"email", "email_verified"}
        return frozenset(found)


@dataclass(frozen=True)
class ExternalAccounts:
    """Finds and makes the accounts of people who have proved to an issuer who they are.

    Attributes:
        granted: The permission rules in effect.
    """

    catalog: Catalog
    granted: RuleLookup

    def log_in(self, issuer: str, rules: ExternalRules, claims: Mapping[str, Any]) -> str:
        """Return the account of who logged in, which is made if there is none, and renewed.

        Its groups become those that the claims say; those that the operator added it to stay.

        Raises:
            LoginRefused: the rules do not let the person in, the account is disabled or removed at this
                moment, or its name is that of another one, or has permissions.
        """
        subject = _subject(claims)
        groups = _texts(claims.get(rules.groups_claim))
        _require_allowed(rules, claims, groups)
        ours = {rules.groups[group] for group in groups if group in rules.groups}
        with self.catalog.read() as tx:
            known = tx.accounts.of_subject(issuer, subject)
        name = known or self._new_name(rules, claims)
        with self.catalog.begin() as tx:
            account = tx.accounts.of_subject(issuer, subject)
            if account is None:
                account = name
                added = tx.accounts.add_subject(issuer, subject, account)
                # Another request of the same person may have been faster.
                if not added and tx.accounts.of_subject(issuer, subject) != account:
                    raise LoginRefused(reason=_taken(account))
            row = tx.accounts.find(account)
            if row and row.disabled_at:
                raise LoginRefused(reason=f"the account {account} is disabled")
            if not tx.accounts.renew(account, tx.now + rules.renewal, ours):
                raise LoginRefused(reason=f"the account {account} has just been removed; begin again")
        return account

    def _new_name(self, rules: ExternalRules, claims: Mapping[str, Any]) -> str:
        """Return the name of a new account, to which nothing was granted unless the operator allows that.

        People may choose their names at the issuer, and what was granted to one is not for everybody.

        Raises:
            LoginRefused: something was, or there is no name.
        """
        name = _name(rules, claims)
        if rules.granted_names:
            return name
        with self.catalog.read() as tx:
            is_free, groups = tx.accounts.find(name) is None, tx.accounts.groups(name)
        if is_free and (groups or self.granted({name})):
            raise LoginRefused(
                reason=f"permission rules or groups name {name} already; ask the operator of this registry"
            )
        return name


def _subject(claims: Mapping[str, Any]) -> str:
    """Return the subject, which is somebody's for ever.

    Raises:
        LoginRefused: there is none.
    """
    subject = claims.get("sub")
    if isinstance(subject, str) and subject.isprintable() and 0 < len(subject) <= _SUBJECT_LIMIT:
        return subject
    raise LoginRefused(reason="the issuer names no subject")


def _require_allowed(rules: ExternalRules, claims: Mapping[str, Any], groups: Sequence[str]) -> None:
    """Raise LoginRefused unless the rules let the person in."""
    if rules.allowed_groups and rules.allowed_groups.isdisjoint(groups):
        raise LoginRefused(reason="you are in none of the groups that may log in")
    if rules.allowed_domains:
        domain = _email(claims).rpartition("@")[2]
        if domain not in rules.allowed_domains:
            raise LoginRefused(reason="your e-mail address is of none of the domains that may log in")


def _name(rules: ExternalRules, claims: Mapping[str, Any]) -> str:
    """Return the name of a new account.

    Raises:
        LoginRefused: the claim has none that an account can have.
    """
    claim = rules.account_claim
    found = _email(claims) if claim == "email" else claims.get(claim)
    if not isinstance(found, str) or not found:
        raise LoginRefused(reason=f"the issuer says no {claim}, after which accounts are named")
    name = rules.prefix + found.lower()
    if not is_account_name(name):
        raise LoginRefused(reason=f"an account cannot be named {found[:_PRINTED]!r}, as your {claim} is")
    return name


def _email(claims: Mapping[str, Any]) -> str:
    """Return the e-mail address, in lower case.

    Raises:
        LoginRefused: there is none, or the issuer has not verified it.
    """
    email = claims.get("email")
    if not isinstance(email, str) or claims.get("email_verified") not in (True, "true"):
        raise LoginRefused(reason="the issuer has verified no e-mail address of yours")
    return email.lower()


def _taken(account: str) -> str:
    return f"there is another account {account}; ask the operator of this registry"


def _texts(claim: object) -> Sequence[str]:
    """Return the texts of a claim: a list of them, or a single one."""
    values = claim if isinstance(claim, list) else [claim]
    return [value for value in values if isinstance(value, str)]
