"""RegistryError: the base of all errors that clients are answered with."""

import json
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, dataclass_transform

#: What a field of an error may hold; all of it can be written as JSON.
Fact = str | int | Sequence[str] | None

#: How many names of a list are shown in one line.
_LISTED = 3


@dataclass_transform(eq_default=False, kw_only_default=True)
@dataclass(eq=False, kw_only=True)
class RegistryError(Exception):
    """A request that is refused, and why.

    Subclasses are dataclasses of keyword-only fields. Text of clients is shortened where it is raised.

    Attributes:
        message: What is wrong, in a few words; the same for every instance of a class.
        details: The explanation, as a format of the fields; empty: the fields with their names.
    """

    message: ClassVar[str] = "the request cannot be granted"
    details: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        dataclass(eq=False, kw_only=True)(cls)

    def facts(self) -> dict[str, Fact]:
        """Return the fields by name, without optional ones that are not set."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in values if value is not None or field.default is MISSING}

    def explanation(self) -> str:
        """Return what is wrong with what, and what to do about it; empty if the message says it all.

        Without ``details``, this is the reason, if there is one, and the other fields with their names.
        """
        if self.details:
            return self.details.format_map({name: shown(value) for name, value in self.facts().items()})
        facts = {name: value for name, value in self.facts().items() if value is not None}
        reason = facts.pop("reason", None)
        parts = [shown(reason)] if reason else []
        for name, value in facts.items():
            named = parts or not isinstance(value, str)
            parts.append(f"{name.replace('_', ' ')} {shown(value)}" if named else shown(value))
        return ", ".join(parts)

    def __str__(self) -> str:
        """Return the message and the explanation in one line: what clients, logs and terminals show."""
        explanation = self.explanation()
        return f"{self.message}: {explanation}" if explanation else self.message


def shown(value: Fact) -> str:
    """Return a fact as text; quoted, if it is empty or would break the line or the terminal."""
    if isinstance(value, str):
        return value if value and value.isprintable() else json.dumps(value)
    return " ".join(map(shown, value)) if isinstance(value, Sequence) else str(value)


def listed(names: Sequence[str]) -> str:
    """Return the first of *names*, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(map(shown, names[:_LISTED])) + more
