"""Workloads: programs, such as the jobs of a CI system, that prove who they are by an issuer's own tokens.

Rules map what the issuer claims of them to groups, and permission lines say what groups may. An issuer
may vouch for everybody in the world, so a token that no rule takes is worth nothing.

Source: OpenID Connect Core 1.0, section 2 (ID Token).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualreg.auth.access import Identity
from dualreg.auth.tokens import TokenInvalid, Verifier
from dualreg.patterns import matches

_RULE = re.compile(r"@([A-Za-z0-9][A-Za-z0-9._-]{0,63}) if (.+)", re.ASCII)
_CONDITION = re.compile(r"([A-Za-z0-9_:./-]+)=(\S+)")
_SUBJECT_LIMIT = 255
#: What their names begin with, as no account's does.
WORKLOAD = "oidc:"


class Rule(NamedTuple):
    """A group, and what every claim must be like for it; ``*`` stands for any run of characters."""

    group: str
    conditions: tuple[tuple[str, str], ...]

    def takes(self, claims: Mapping[str, Any]) -> bool:
        """Tell whether a token with *claims* is in the group."""
        return all(_holds(claims.get(name), pattern) for name, pattern in self.conditions)


def parse_rules(text: str) -> tuple[Rule, ...]:
    """Read ``@GROUP if CLAIM=PATTERN and CLAIM=PATTERN``, rules by semicolon.

    Raises:
        ValueError: one of them is not like that.
    """
    rules = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        match = _RULE.fullmatch(entry)
        conditions = [_CONDITION.fullmatch(each.strip()) for each in match[2].split(" and ")] if match else []
        if match is None or None in conditions:
            raise ValueError(f"{entry!r} is not like '@GROUP if CLAIM=PATTERN and CLAIM=PATTERN'")
        rules.append(Rule(match[1], tuple((each[1], each[2]) for each in conditions if each)))
    return tuple(rules)


@dataclass(frozen=True)
class Workloads:
    """Whose tokens of workloads are taken, and what is made of them."""

    verifier: Verifier
    rules: tuple[Rule, ...]

    def identify(self, token: str) -> Identity:
        """Return which workload a token is from.

        Raises:
            TokenInvalid: it is not good, or no rule takes it.
        """
        claims = self.verifier.verify(token)
        groups = frozenset(rule.group for rule in self.rules if rule.takes(claims))
        subject = str(claims.get("sub", ""))[:_SUBJECT_LIMIT]
        if not groups or not subject or not subject.isprintable():
            raise TokenInvalid("no rule takes this workload")
        return Identity(WORKLOAD + subject, groups, until=float(claims["exp"]))


def _holds(claim: object, pattern: str) -> bool:
    values = claim if isinstance(claim, list) else [claim]
    return any(isinstance(value, str) and matches(pattern, value) for value in values)
