"""Files and functions small enough to be read in one go, and said what they are for."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module

import pytest

from tests.architecture.sources import Definition, Module, modules

FILE_LINES = 400
FUNCTION_LINES = 40


@pytest.mark.parametrize("each", modules(), ids=lambda each: each.name)
def test_files_are_short(each: Module) -> None:
    """A file over the limit has a second subject that wants its own."""
    assert len(each.text.splitlines()) <= FILE_LINES


@pytest.mark.slow
def test_functions_are_short() -> None:
    """A function, docstring included, fits a screen."""
    offending = [
        f"{each.at(node)}: {node.name} has {length} lines"
        for each in modules()
        for node in each.definitions()
        if not isinstance(node, ast.ClassDef)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    ]
    assert offending == []


def _public(node: ast.Module | Definition) -> Iterator[Definition]:
    """Yield what a reader may use of *node*: its public classes and functions, and theirs."""
    for child in node.body:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        if isinstance(child, kinds) and not child.name.startswith("_"):
            yield child
            if isinstance(child, ast.ClassDef):
                yield from _public(child)


@cache
def _declared() -> set[str]:
    """Return the names of methods that a protocol declares and documents."""
    return {
        method.name
        for each in modules()
        for node in each.definitions()
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and ast.get_docstring(method)
    }


def _overrides(each: Module) -> set[Definition]:
    """Return the public methods whose promise stands elsewhere: in a protocol of ours, or in a base class."""
    found = set[Definition]()
    for node in each.tree.body:
        if isinstance(node, ast.ClassDef):
            bases = getattr(import_module(each.name), node.name).__mro__[1:-1]
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (
                    method.name in _declared() - {"__init__"}
                    or any(hasattr(base, method.name) for base in bases)
                ):
                    found.add(method)
            if any("Protocol" in ast.unparse(base) for base in node.bases):
                found -= {*node.body}
    return found


@pytest.mark.slow
def test_everything_public_says_what_it_does() -> None:
    """Modules, classes, functions and methods have docstrings, unless a base or protocol has the method's."""
    offending = [str(each.path) for each in modules() if not ast.get_docstring(each.tree)]
    for each in modules():
        overrides = _overrides(each)
        offending += [
            f"{each.at(node)}: {node.name}"
            for node in _public(each.tree)
            if node not in overrides and not ast.get_docstring(node)
        ]
    assert offending == []


def test_no_line_is_excused_without_a_reason() -> None:
    """Whoever silences a checker says why, on the same line."""
    offending = []
    for each in modules():
        for number, line in enumerate(each.text.splitlines(), 1):
            for mark in ("# noqa", "# type: ignore", "# pragma"):
                comment = line.partition(mark)[2]
                if mark in line and "--" not in comment and "  # " not in comment:
                    offending.append(f"{each.path}:{number}: {line.strip()}")
    assert offending == []
