"""What is written for people is true where a program can tell: settings, commands, links, decisions."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dualreg.cli import main
from dualreg.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FILE = re.compile(r"`([a-z0-9_/]+/[a-z0-9_]+\.py)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def commands(command: click.Command, path: str) -> Iterator[str]:
    """Yield what an operator types for *command*, or for every command below it."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        if below := command.get_command(context, name):
            yield from commands(below, f"{path} {name}")


def prose(document: Path) -> str:
    """Return the document without its blocks of code."""
    return _FENCED.sub("", document.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """Return the fragment that leads to *heading*, as the usual renderers make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def leads_somewhere(document: Path, link: str) -> bool:
    """Tell whether a relative link of *document* names a file, and a heading of it if it has a fragment."""
    path, _, fragment = link.partition("#")
    target = document.parent / path if path else document
    if not fragment:
        return target.exists()
    return target.is_file() and fragment in map(anchor, _HEADING.findall(prose(target)))


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_in_the_readme(field: str) -> None:
    """As a row of the table: key and variable side by side."""
    assert f"| `{field}` | `{PREFIX}{field.upper()}` |" in README


def test_the_readme_has_no_other_settings() -> None:
    """A variable that the README names exists, or chooses the file, or is for the tests."""
    named = {variable.removeprefix(PREFIX).lower() for variable in re.findall(rf"{PREFIX}[A-Z0-9_]+", README)}
    of_commands = {"config", "server", "server_key", "server_key_file", "server_ca"}
    assert named - of_commands <= Settings.model_fields.keys()


@pytest.mark.parametrize("command", [*commands(main, "dualreg")])
def test_every_command_is_in_the_readme(command: str) -> None:
    """As an operator types it."""
    assert f"`{command}" in README


def test_documents_are_found() -> None:
    """The tests below look at something."""
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "architecture.md"} <= {
        document.name for document in DOCUMENTS
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_relative_links_lead_somewhere(document: Path) -> None:
    """To a file, and to a heading in it if the link names one."""
    links = [link for link in _LINK.findall(prose(document)) if not re.match(r"[a-z]+:", link)]
    broken = [link for link in links if not leads_somewhere(document, link)]
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_named_source_files_exist(document: Path) -> None:
    """Counted from the top of the checkout, or from the package."""
    named = _FILE.findall(prose(document))
    missing = [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "dualreg" / name).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("folder", ["catalog", "registry", "operations", "web/v1", "web/v2"])
def test_every_module_of_a_noun_is_in_the_map(folder: str) -> None:
    """A new service, table or resource is added to docs/architecture.md."""
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    helpers = {"__init__.py", "columns.py", "locations.py", "pages.py", "responses.py"}
    modules = [path for path in (ROOT / "dualreg" / folder).glob("*.py") if path.name not in helpers]
    names = sorted(f"`{folder}/{module.name}`" for module in modules)
    assert [name for name in names if name not in architecture] == []


def test_every_decision_is_listed() -> None:
    """With its own title; numbers are without gaps; each has the four headings."""
    folder = ROOT / "docs" / "adr"
    listed = (folder / "README.md").read_text(encoding="utf-8")
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == [*range(1, len(pages) + 1)]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        number, _, title = text.splitlines()[0].removeprefix("# ").partition(" ")
        assert f"| [{number}]({page.name}) | {title} |" in listed
        assert _HEADING.findall(text)[1:] == ["Context", "Decision", "Consequences", "Rejected"]
