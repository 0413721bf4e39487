"""Operation: a method of a group, and how it is called over HTTP."""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from http import HTTPStatus
from types import NoneType
from typing import Any, NamedTuple, get_origin, get_type_hints

from dualreg.auth.access import Action
from dualreg.errors import RegistryError, RequestInvalid
from dualreg.operations.values import decode, documented, encode

#: Where the API is.
PREFIX = "/api/v1"
#: Methods whose parameters are in the query.
IN_QUERY = ("GET", "DELETE")
#: What no text that is stored may contain: half characters, which JSON has, and NUL.
_UNWRITABLE = re.compile("[\ud800-\udfff\0]")
#: Headings in docstrings after what is for readers of the API.
_SECTIONS = ("\n\nArgs:\n", "\n\nRaises:\n")


class Needs(Enum):
    """What an operation requires, where that is no action on the repository that it names."""

    #: Any account: what it may not pull is left out.
    ACCOUNT = "any account; what it may not pull is left out"
    ADMINISTRATOR = "an administrator"


class Parameter(NamedTuple):
    """A parameter of an operation.

    Attributes:
        required: Whether it has no default.
        about: What it is, in a sentence; may be empty.
    """

    name: str
    kind: Any
    required: bool
    default: object
    about: str


@dataclass(frozen=True)
class Operation:
    """What one method does, over HTTP.

    Attributes:
        command: The command that calls it, without ``dualreg``.
        method, path: Where it is served, below PREFIX.
        call: The method of a group.
        needs: What it requires: an action on the parameter ``repository``, or else.
        while_readonly: Whether it changes something even if the registry is read-only.
    """

    command: str
    method: str
    path: str
    call: Callable[..., Any]
    needs: Action | Needs = Needs.ADMINISTRATOR
    while_readonly: bool = False

    @property
    def group(self) -> str:
        """The name of the class that has the method."""
        return self.call.__qualname__.partition(".")[0]

    @property
    def name(self) -> str:
        """The name of the operation, which no other one has."""
        return f"{self.path.split('/')[1]}_{self.call.__name__}"

    @property
    def in_query(self) -> bool:
        """Whether parameters are in the query, and not in the body."""
        return self.method in IN_QUERY

    @cached_property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by name, as the signature and the docstring have them."""
        types = get_type_hints(self.call)
        said = documented(inspect.getdoc(self.call), "Args")
        return {
            each.name: Parameter(
                each.name, types[each.name], each.default is each.empty, each.default, said.get(each.name, "")
            )
            for each in [*inspect.signature(self.call).parameters.values()][1:]
        }

    @cached_property
    def answer(self) -> Any:  # noqa: ANN401 -- a type
        """The type of the answer; NoneType: there is none."""
        return get_type_hints(self.call)["return"]

    @property
    def summary(self) -> str:
        """What it does, in a sentence."""
        return (inspect.getdoc(self.call) or "").partition("\n")[0]

    @property
    def about(self) -> str:
        """What else there is to know; may be empty."""
        text = (inspect.getdoc(self.call) or "").partition("\n")[2]
        for section in _SECTIONS:
            text = f"\n{text}".partition(section)[0]
        return text.strip()

    @property
    def required_permission(self) -> str:
        """What it requires, in words."""
        if isinstance(self.needs, Needs):
            return self.needs.value
        optional = not self.parameters["repository"].required
        return f"{self.needs} on the repository" + (", or an administrator without one" if optional else "")

    def arguments_of_query(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the arguments in a query: text as it is, all else as in JSON.

        Raises:
            RequestInvalid: one is unknown, missing or malformed. Also what the type of one raises.
        """
        given = {name: self._of_texts(name, texts) for name, texts in query.items()}
        return self.arguments(given)

    def _of_texts(self, name: str, texts: list[str]) -> object:
        """Return the texts of a parameter in a query as JSON would have them."""
        kind = self.parameters[name].kind if name in self.parameters else str
        if get_origin(kind) is tuple:
            return texts
        if len(texts) > 1:
            raise RequestInvalid(reason=f"{name} is given twice")
        if not {bool, int}.isdisjoint({kind, *getattr(kind, "__args__", ())}):
            try:
                return json.loads(texts[0][:30])
            except ValueError:
                return texts[0]
        return texts[0]

    def arguments(self, given: Mapping[str, object]) -> dict[str, Any]:
        """Return the arguments in a JSON object; null means that one is not given.

        Raises:
            RequestInvalid: one is unknown, missing or malformed. Also what the type of one raises.
        """
        if unknown := sorted(given.keys() - self.parameters.keys()):
            raise RequestInvalid(reason=f"unknown parameter {unknown[0][:100]!r}")
        found = {
            name: self._decoded(self.parameters[name], value)
            for name, value in given.items()
            if value is not None
        }
        for each in self.parameters.values():
            if each.required and each.name not in found:
                raise RequestInvalid(reason=f"{each.name} is missing")
        return found

    @staticmethod
    def _decoded(parameter: Parameter, value: object) -> Any:  # noqa: ANN401 -- of its type
        require_text(parameter.name, value)
        try:
            return decode(parameter.kind, value)
        except RegistryError:
            raise
        except ValueError as error:
            raise RequestInvalid(reason=f"{parameter.name}: {error}") from error

    def given(self, *arguments: object, **named: object) -> dict[str, Any]:
        """Return the arguments of a call as JSON has them, without those that are the default."""
        bound = inspect.signature(self.call).bind(None, *arguments, **named).arguments
        return {
            name: encode(value)
            for name, value in bound.items()
            if name in self.parameters and value != self.parameters[name].default
        }

    @property
    def status(self) -> int:
        """The status of success."""
        return (HTTPStatus.OK if self.has_answer else HTTPStatus.NO_CONTENT).value

    @property
    def has_answer(self) -> bool:
        """Whether it answers anything."""
        return self.answer is not NoneType


def require_text(name: str, value: object) -> None:
    """Check that the texts of an argument can be stored, and compared with what is.

    Raises:
        RequestInvalid: one cannot.
    """
    texts = value if isinstance(value, (list, tuple)) else [value]
    if any(isinstance(each, str) and _UNWRITABLE.search(each) for each in texts):
        raise RequestInvalid(reason=f"{name} is not text")
