"""The package's own source, parsed: what the tests of its shape look at."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "dualreg"
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """One file of the package.

    Attributes:
        name: Dotted, as it is imported.
        path: Below the checkout.
    """

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether this is an ``__init__``."""
        return self.path.name == "__init__.py"

    def at(self, node: ast.stmt | ast.expr) -> str:
        """Return where *node* is, to be printed."""
        return f"{self.path}:{node.lineno}"

    def imports(self) -> Mapping[str, str]:
        """Return every module imported, anywhere in the file, and where.

        Both ``package.name`` and ``package`` are listed for a name imported from a package of ours, since
        the name may be a module.
        """
        return _imports(self)

    def definitions(self) -> list[Definition]:
        """Return every class and function of the file, nested ones too."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the module that *node* imports from."""
        if not node.level:
            return node.module or ""
        parents = self.name.split(".")
        parents = parents[: len(parents) - node.level + self.is_package]
        return ".".join([*parents, *([node.module] if node.module else [])])


@cache
def _imports(module: Module) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name: module.at(node) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = module.absolute(node)
            found[source] = module.at(node)
            if source.partition(".")[0] == PACKAGE:
                for alias in node.names:
                    if f"{source}.{alias.name}" in _names():
                        found[f"{source}.{alias.name}"] = module.at(node)
    return MappingProxyType(found)


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    paths = sorted((CHECKOUT / PACKAGE).rglob("*.py"))
    return tuple(
        Module(_name(path), path.relative_to(CHECKOUT), text, ast.parse(text))
        for path, text in ((path, path.read_text(encoding="utf-8")) for path in paths)
    )


def module(name: str) -> Module:
    """Return the module called *name*."""
    return next(each for each in modules() if each.name == name)


@cache
def _names() -> frozenset[str]:
    return frozenset(_name(path) for path in (CHECKOUT / PACKAGE).rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
