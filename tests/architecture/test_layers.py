"""Imports point down, each library has one home, and importing the package does nothing."""

import ast
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.architecture.sources import Module, module, modules

#: Each part of the package, and the parts that it may import; itself it always may.
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "patterns": set(),
    "messages": set(),
    "reloading": {"mountinfo"},
    "mountinfo": set(),
    "ownership": set(),
    "filelocks": set(),
    "transports": set(),
    "stores": set(),
    "networks": set(),
    "logs": {"messages"},
    "tracing": {"messages", ""},
    "acting": set(),
    "waiting": {"errors"},
    "settings": {"patterns", "transports", "stores", "messages"},
    "image": {"errors"},
    "storage": {"errors", "image", "ownership", "mountinfo", "stores", "tracing"},
    "catalog": {"acting", "errors", "image", "patterns", "ownership", "networks", "mountinfo"}
    | {"tracing", "filelocks"},
    "remote": {"image", "messages", "tracing"},
    "auth": {
        "errors",
        "image",
        "catalog",
        "storage",
        "remote",
        "patterns",
        "reloading",
        "ownership",
        "messages",
        "networks",
        "waiting",
    },
    "registry": {"errors", "image", "storage", "catalog", "patterns", "messages", "networks"}
    | {"waiting", "reloading"},
    "monitoring": {"catalog", ""},
    "operations": {"errors", "image", "catalog", "registry", "auth", "settings", "patterns", "remote"}
    | {"webhooks", "messages"}
    | {"maintenance", "migrate", ""},
    "maintenance": {"errors", "image", "storage", "catalog", "registry", "ownership"},
    "migrate": {"errors", "image", "storage", "catalog", "registry", "remote", "patterns", "transports"}
    | {"acting", "ownership", "messages", "waiting", "filelocks"},
    "upstreams": {"errors", "image", "catalog", "registry", "remote", "migrate", "patterns", "messages"}
    | {"acting", "waiting", "tracing"},
    "webhooks": {"catalog", "registry", "remote", "reloading", "messages", ""},
    "proxies": {
        "auth",
        "errors",
        "migrate",
        "registry",
        "reloading",
        "remote",
        "settings",
        "upstreams",
        "waiting",
    },
    "assembly": {
        "errors",
        "image",
        "storage",
        "catalog",
        "registry",
        "migrate",
        "auth",
        "settings",
        "stores",
        "proxies",
        "waiting",
    },
    "web": {"errors", "image", "storage", "catalog", "registry", "auth", "settings", "patterns"}
    | {"acting", "messages", "networks", "logs", "operations", "tracing", "waiting", ""},
    "cli": {"errors", "image", "remote", "storage", "catalog", "registry", "auth", "maintenance", "migrate"}
    | {"settings", "stores", "transports", "web", "assembly", "patterns", "proxies", "monitoring"}
    | {"acting", "reloading", "messages", "logs", "operations", "tracing", "webhooks", ""},
    "issuers": {"auth", "reloading", "settings"},
    "__main__": {"cli"},
    "": set(),
}
#: Where parts are joined: the only importers of ``assembly``.
JOINERS = ("dualreg.web.app", "dualreg.cli")
#: Each foreign library, and the modules (with what is below them) that may import it.
HOMES: dict[str, set[str]] = {
    "flask": {"dualreg.web", "dualreg.cli"},
    "werkzeug": {"dualreg.web"},
    "sqlalchemy": {"dualreg.catalog"},
    "alembic": {"dualreg.catalog.schema", "dualreg.catalog.upgrade"},
    "psycopg": {"dualreg.catalog.postgresql"},
    "gunicorn": {"dualreg.cli"},
    "pydantic": {"dualreg.settings"},
    "prometheus_client": {"dualreg.monitoring"},
    "click": {"dualreg.cli"},
    "cachetools": {
        "dualreg.auth.attempts",
        "dualreg.auth.endings",
        "dualreg.migrate.on_demand.lookup",
        "dualreg.migrate.on_demand.loader",
        "dualreg.migrate.sources.v2_remote",
        "dualreg.registry.at_once",
        "dualreg.registry.derived",
        "dualreg.registry.document_cache",
        "dualreg.registry.editions",
        "dualreg.registry.integrity",
        "dualreg.registry.layer_files",
        "dualreg.registry.listings",
        "dualreg.registry.manifests",
        "dualreg.registry.platform_editions",
        "dualreg.registry.schema1_editions",
        "dualreg.registry.signatures",
        "dualreg.registry.v1_layers",
        "dualreg.auth.keyring",
        "dualreg.auth.passwords",
        "dualreg.auth.tokens",
        "dualreg.storage.moving",
        "dualreg.storage.s3_layouts",
        "dualreg.storage.s3_store",
        "dualreg.upstreams.memory",
    },
    "cryptography": {
        "dualreg.image.jws",
        "dualreg.image.certificate_chains",
        "dualreg.image.signatures",
        "dualreg.auth.trust",
    },
    "authlib": {"dualreg.auth.login_issuer"},
    "joserfc": {"dualreg.auth.login_issuer"},
    "backports": {"dualreg.image.inflater"},
    "jwt": {"dualreg.auth.tokens", "dualreg.auth.trust"},
    "rich": {"dualreg.cli.progress"},
    "yaml": {"dualreg.migrate.sources.v1_config"},
    "boto3": {"dualreg.storage.s3_library"},
    "botocore": {"dualreg.storage.s3_library"},
    "structlog": {"dualreg.logs"},
    "opentelemetry": {"dualreg.tracing.exporting"},
    "bcrypt": {"dualreg.auth.passwords"},
    "urllib3": {"dualreg.remote", "dualreg.storage.s3_library"},
}
#: What may be called while a module is imported, because it only makes a value (or is a decorator's sort).
HARMLESS = {
    "AfterValidator",
    "BeforeValidator",
    "BigInteger",
    "ContextVar",
    "BigInteger().with_variant",
    "DateTime",
    "ConfigDict",
    "Effort",
    "Field",
    "ForeignKey",
    "ForeignKeyConstraint",
    "IPv6Network",
    "Identity",
    "Index",
    "MappingProxyType",
    "MetaData",
    "Operation",
    "ParamSpec",
    "Path",
    "PrivateAttr",
    "RLock",
    "Rendering",
    "String",
    "Task",
    "TypeVar",
    "bytes.fromhex",
    "click.Path",
    "click.argument",
    "click.option",
    "datetime",
    "field",
    "frozenset",
    "logging.getLogger",
    "mapped_column",
    "re.compile",
    "str.maketrans",
    "text",
    "timedelta",
}


def _part(name: str) -> str:
    """Return which part of the package a module belongs to; the package's own file is part ``""``."""
    return name.split(".")[1] if "." in name else ""


def _below(name: str, home: str) -> bool:
    return name == home or name.startswith(f"{home}.")


def test_every_part_has_a_layer() -> None:
    """A new part of the package says first what it may import."""
    assert {_part(each.name) for each in modules()} == set(LAYERS)


@pytest.mark.parametrize("part", LAYERS)
def test_imports_point_down(part: str) -> None:
    """Edges over rules over state over values over words; catalog and storage do not know each other."""
    offending = [
        f"{where}: {each.name} imports {imported}"
        for each in modules()
        if _part(each.name) == part
        for imported, where in each.imports().items()
        if _below(imported, "dualreg")
        and _part(imported) not in LAYERS[part] | {part}
        and not (_part(imported) in ("assembly", "issuers") and each.name == "dualreg.web.app")
    ]
    assert offending == []


def test_parts_are_joined_in_one_place() -> None:
    """Nobody but the application factory and the commands sees how parts are chosen."""
    importers = {each.name for each in modules() if "dualreg.assembly" in each.imports()}
    assert {name for name in importers if not any(_below(name, home) for home in JOINERS)} == set()


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library: str) -> None:
    """A library can be understood, upgraded or replaced by looking at one place."""
    offending = [
        f"{where}: {each.name} imports {imported}"
        for each in modules()
        if not any(_below(each.name, home) for home in HOMES[library])
        for imported, where in each.imports().items()
        if _below(imported, library)
    ]
    assert offending == []


def test_every_library_has_a_home() -> None:
    """What is imported is ours, Python's own, or in the table of homes."""
    known = {*HOMES, *sys.stdlib_module_names, "compression", "dualreg"}  # which is Python's own since 3.14
    offending = [
        f"{where}: {each.name} imports {imported}"
        for each in modules()
        for imported, where in each.imports().items()
        if imported.partition(".")[0] not in known
    ]
    assert offending == []


@pytest.mark.slow
def test_only_settings_read_the_environment() -> None:
    """Nothing but the edges' entry points touches ``os.environ``, and they hand it to Settings."""
    readers = {
        each.name
        for each in modules()
        for node in ast.walk(each.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert readers == {"dualreg.cli.options"}


def _calls_at_import(node: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls made when *node* is imported: not those inside functions, but their defaults'."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        arguments = node.args
        for default in (*arguments.defaults, *filter(None, arguments.kw_defaults)):
            yield from _calls_at_import(default)
        return
    if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
        return
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.ClassDef) and child in node.decorator_list):
            yield from _calls_at_import(child)


@pytest.mark.parametrize("each", modules(), ids=lambda each: each.name)
def test_importing_only_makes_values(each: Module) -> None:
    """No module opens, reads, registers or starts anything when it is imported."""
    own = {node.name for node in each.definitions() if isinstance(node, ast.ClassDef)}
    offending = [
        f"{each.at(call)}: {ast.unparse(call)[:80]}"
        for call in _calls_at_import(each.tree)
        if ast.unparse(call.func) not in HARMLESS | own
    ]
    assert offending == []


@pytest.mark.slow
def test_importing_writes_nothing(tmp_path: object) -> None:
    """Every module can be imported in an empty folder, without environment, and says and leaves nothing."""
    names = [each.name for each in modules() if each.name != "dualreg.__main__"]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import os, {', '.join(names)}; print(os.listdir())"],
        check=False, capture_output=True, text=True, cwd=str(tmp_path), env={},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")


def _handlers() -> Iterator[tuple[Module, ast.FunctionDef]]:
    """Yield every function that a dialect hands to Flask: routes, error handlers, URL parsers."""
    for each in modules():
        if not _below(each.name, "dualreg.web.v1") and not _below(each.name, "dualreg.web.v2"):
            continue
        registered = {
            argument.id
            for node in ast.walk(each.tree)
            if isinstance(node, ast.Call) and _registers(node)
            for argument in (*node.args, *(keyword.value for keyword in node.keywords))
            if isinstance(argument, ast.Name)
        }
        for node in each.definitions():
            if isinstance(node, ast.FunctionDef) and node.name in registered:
                yield each, node


def _registers(call: ast.Call) -> bool:
    """Tell whether this is ``blueprint.get(…)(handler)`` or ``blueprint.add_url_rule(…, handler)``."""
    function = call.func.func if isinstance(call.func, ast.Call) else call.func
    return isinstance(function, ast.Attribute) and ast.unparse(function.value) == "blueprint"


def test_handlers_contain_no_try() -> None:
    """Errors are raised once, as facts, and rendered once a dialect; a handler parses, calls, renders."""
    handlers = [*_handlers()]
    assert len(handlers) > 25
    offending = [
        f"{each.at(node)}: {handler.name} contains try"
        for each, handler in handlers
        for node in ast.walk(handler)
        if isinstance(node, ast.Try)
    ]
    assert offending == []


def test_handlers_know_neither_sql_nor_stores() -> None:
    """Of the catalog the edge sees rows only, of the store at most the size of a chunk."""
    allowed = {
        "dualreg.catalog",
        "dualreg.catalog.rows",
        "dualreg.catalog.moves",
        "dualreg.catalog.orders",
        "dualreg.storage",
        "dualreg.storage.base",
    }
    offending = [
        f"{where}: {each.name} imports {imported}"
        for each in modules()
        if _below(each.name, "dualreg.web")
        for imported, where in each.imports().items()
        if (_below(imported, "dualreg.catalog") or _below(imported, "dualreg.storage"))
        and imported not in allowed
    ]
    assert offending == []


def test_only_services_touch_the_state() -> None:
    """Catalog, store and link files are reached through the registry's services, which keep the rules."""
    offending = [
        f"{each.at(node)}: {ast.unparse(node)}"
        for each in modules()
        if not _below(each.name, "dualreg.registry") and each.name != "dualreg.assembly"
        for node in ast.walk(each.tree)
        if isinstance(node, ast.Attribute) and node.attr == "state"
    ]
    assert offending == []


def test_the_package_draws_its_map() -> None:
    """A reader finds the parts where the package introduces itself."""
    text = ast.get_docstring(module("dualreg").tree) or ""
    drawn = set(LAYERS) - {"", "__main__", "errors", "settings"}
    assert {part for part in drawn if part not in text} == set()
