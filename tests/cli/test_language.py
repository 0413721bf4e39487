"""Help texts and messages are plain English, in what a program can check."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dualreg.cli import COMMANDS, main
from tests.architecture.sources import Module, modules

#: Verbs that a help text may begin with.
VERBS = {
    "Accept", "Add", "Allow", "Attach", "Back", "Change", "Check", "Choose", "Compare", "Copy",
    "Create", "Delete", "Deliver", "End", "Exclude", "Expire", "Explain", "Export", "Fetch", "Forget",
    "Import", "Inspect", "Keep", "Limit", "List", "Listen", "Log", "Look", "Make", "Manage", "Point",
    "Print", "Read", "Refuse", "Remove", "Rename", "Repair", "Report", "Restore", "Revoke", "Roll",
    "Run", "Search", "Select", "Send", "Serve", "Show", "Sign", "Trust", "Upgrade", "Use", "Write",
}  # fmt: skip
#: Words before the verb.
ADVERBS = {"Also", "Only"}

#: What reads like a translation, and what to write instead.
IDIOMS = {
    r"\b(told|tells?)\b": "report, print, say",
    r"\b(whoever|nobody|everybody)\b": "name who it is",
    r"\bwho may\b": "permissions",
    r"\bleads? to\b": "references, points to; untagged",
    r"(?<!there )\bis no \w+": "is not a; unknown; invalid",
    r"\b(at hand|comes? to|the likes|as far as)\b": "leave it out",
    r"\b(shall|is to be|are to be|were? to be)\b": "must, will",
    r"\blook(s|ed|ing)? after\b": "manage",
    r"\bone cannot\b": "cannot",
    r"\bmakes? no sense\b": "invalid",
    r"\blies\b": "is",
    r"\bof (its|their|our) own\b": "own",
    r"\bsorts?\b": "kind, type",
    r"\b(is|was) (said|stated)\b": "name the text",
    r"\b(brings?|brought)\b": "import, export, add, copy",
    r"\bheld against\b": "compared with",
    r"\bbroken off\b": "interrupted",
    r"\bbegun again\b": "restarted",
    r"\bput off\b": "deferred",
    r"\b(takes?|taken|took) (in|out)\b": "import; remove, roll back",
    r"\bhere\b": "this registry, locally",
    r"\b(are|is|was) there\b": "the source, the remote registry; exists",
    "``": "no marks at all",
}


def commands(command: click.Command, path: str = "dualreg") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with what an operator types for it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below
            yield from commands(below, f"{path} {name}")


ALL = dict(commands(main))


def texts(command: click.Command) -> Iterator[str]:
    """Yield the help of a command, and of its options that are shown."""
    yield command.help or ""
    for option in command.params:
        if isinstance(option, click.Option):
            yield option.help or ""


def strings(module: Module) -> Iterator[tuple[str, str]]:
    """Yield the strings of several words that are not docstrings, each with where it is."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
        if isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from [(module.at(node), node.value)] if " " in node.value else []


def faults(text: str) -> list[str]:
    """Return the idioms in a text, each with what to write instead."""
    return [
        f"{found[0]!r} (instead: {better})"
        for idiom, better in IDIOMS.items()
        if (found := re.search(idiom, text, re.IGNORECASE))
    ]


@pytest.mark.parametrize("path", ALL)
def test_help_is_imperative(path: str) -> None:
    """The help of each command and each option begins with a verb, and its first line is a sentence."""
    for text in texts(ALL[path]):
        words = [word for word in text.split()[:2] if word not in ADVERBS]
        assert words[0].capitalize() in VERBS, text
        assert text[0].isupper(), text
        first = text.split("\n\n")[0].partition("  [")[0]
        assert first.endswith("."), text


@pytest.mark.parametrize("path", ALL)
def test_help_has_no_idioms(path: str) -> None:
    """Neither the help of a command nor that of its options."""
    assert [(text, faults(text)) for text in texts(ALL[path]) if faults(text)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_agrees_with_their_help(name: str) -> None:
    """What ``dualreg --help`` shows without importing a command is the first sentence of its own help."""
    context = click.Context(main)
    command = main.get_command(context, name)
    assert command
    assert COMMANDS[name][1] == (command.help or "").split("\n\n")[0].replace("\n", " ")


@pytest.mark.slow
def test_messages_have_no_idioms() -> None:
    """Nor any other string of several words, anywhere in the package: it may be printed."""
    wrong = [f"{at}: {fault}" for each in modules() for at, text in strings(each) for fault in faults(text)]
    assert wrong == []


def test_idioms_are_found() -> None:
    """The test above looks at messages, formatted ones too, but not at docstrings and single words."""
    text = 'def f(x):\n    """Tell it."""\n    raise ValueError(f"{x} is told here", "told")\n'
    found = [*strings(Module("x", Path("x.py"), text, ast.parse(text)))]
    assert found == [("x.py:3", " is told here")]
    assert [fault.split()[0] for fault in faults(found[0][1])] == ["'told'", "'here'"]
