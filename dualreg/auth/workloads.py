"""Workloads: programs, such as CI jobs, that authenticate with tokens of an OpenID Connect issuer.

Workload rules map the claims of a token to groups, and permission rules say what groups may do. An issuer may
issue tokens to anybody in the world, so a token that no workload rule matches is rejected.

Source: OpenID Connect Core 1.0, section 2 (ID Token).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dualreg.auth.access import WORKLOAD, Identity
from dualreg.auth.tokens import TokenInvalid, Verifier
from dualreg.patterns import matches

_RULE = re.compile(r"@([A-Za-z0-9][A-Za-z0-9._-]{0,63}) if (.+)", re.ASCII)
_CONDITION = re.compile(r"([A-Za-z0-9_:./-]+)=(\S+)")
_SUBJECT_LIMIT = 255


class WorkloadRule(NamedTuple):
    """A group, and a pattern for each claim that its members must have; ``*`` matches any characters."""

    group: str
    conditions: tuple[tuple[str, str], ...]

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """Return whether a token with *claims* belongs to the group."""
        return all(_matches(claims.get(name), pattern) for name, pattern in self.conditions)


def parse_workload_rules(text: str) -> tuple[WorkloadRule, ...]:
    """Return the rules in *text*: ``@GROUP if CLAIM=PATTERN and CLAIM=PATTERN``, separated by semicolons.

    Raises:
        ValueError: one of them is invalid.
    """
    rules = []
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        match = _RULE.fullmatch(entry)
        conditions = [_CONDITION.fullmatch(each.strip()) for each in match[2].split(" and ")] if match else []
        if match is None or None in conditions:
            raise ValueError(f"invalid rule {entry!r}; expected '@GROUP if CLAIM=PATTERN and CLAIM=PATTERN'")
        rules.append(WorkloadRule(match[1], tuple((each[1], each[2]) for each in conditions if each)))
    return tuple(rules)


@dataclass(frozen=True)
class Workloads:
    """Authenticates workloads of one issuer."""

    verifier: Verifier
    rules: tuple[WorkloadRule, ...]

    def identify(self, token: str) -> Identity:
        """Return the identity of the workload that a token was issued to.

        Raises:
            TokenInvalid: it cannot be verified, or no rule matches it.
        """
        claims = self.verifier.verify(token)
        groups = frozenset(rule.group for rule in self.rules if rule.matches(claims))
        subject = str(claims.get("sub", ""))[:_SUBJECT_LIMIT]
        if not groups or not subject or not subject.isprintable():
            raise TokenInvalid("no rule matches this workload")
        return Identity(WORKLOAD + subject, groups, until=float(claims["exp"]))


def _matches(claim: object, pattern: str) -> bool:
    values = claim if isinstance(claim, list) else [claim]
    return any(isinstance(value, str) and matches(pattern, value) for value in values)
