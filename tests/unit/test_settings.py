"""Settings: where values come from, which wins, and how mistakes are named."""

from pathlib import Path
from typing import Any

import pytest

from dualreg.settings import DEFAULT_FILES, Settings, SettingsInvalid, layers
from dualreg.storage import open_store

PATHS = ("data", "tls_cert", "tls_key", "htpasswd", "permissions", "token_keys", "audit")


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep configuration files of the checkout and of this machine out of these tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(layers, "DEFAULT_FILES", (DEFAULT_FILES[0], tmp_path / "etc/dualreg.toml"))


@pytest.mark.sqlite
def test_everything_has_a_default(tmp_path: Path) -> None:
    """Without file, environment and flags it serves on loopback, from a folder where it was started."""
    settings = Settings.from_env({})
    assert settings == Settings()
    assert settings.bind == "127.0.0.1:5000"
    assert settings.store_url == f"file://{tmp_path}/dualreg-data"
    assert settings.database_url == f"sqlite:///{tmp_path}/dualreg-data/catalog.sqlite3"
    assert {settings.origin(name) for name in Settings.model_fields} == {"default"}


def test_every_field_says_what_it_is() -> None:
    """Each field has a description, for whoever reads the class."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_later_sources_win(tmp_path: Path) -> None:
    """The file gives way to the environment, and that to flags; each value knows where it came from."""
    config = tmp_path / "own.toml"
    config.write_text('workers = 3\nthreads = 4\nbind = "h:1"\n')
    settings = Settings.from_env(
        {"DUALREG_THREADS": "5", "DUALREG_BIND": "h:2", "PATH": "/bin", "DUALREGX": "no"},
        config=config,
        flags={"bind": "h:3", "data": None},
    )
    assert (settings.workers, settings.threads, settings.bind) == (3, 5, "h:3")
    origins = {name: settings.origin(name) for name in ("workers", "threads", "bind", "data")}
    assert origins == {
        "workers": f"workers in {config}",
        "threads": "DUALREG_THREADS",
        "bind": "--bind",
        "data": "default",
    }


@pytest.mark.parametrize("how", ["system", "here", "variable", "argument", "argument over variable"])
def test_where_the_file_is(tmp_path: Path, how: str) -> None:
    """Of the system, or ``dualreg.toml`` here, or what DUALREG_CONFIG or the command line names."""
    named = tmp_path / "named.toml"
    other = tmp_path / "other.toml"
    other.write_text("workers = 9\n")
    (tmp_path / "etc").mkdir()
    path = {"system": layers.DEFAULT_FILES[1], "here": DEFAULT_FILES[0]}.get(how, named)
    if how != "system":
        layers.DEFAULT_FILES[1].write_text("workers = 8\n")
    path.write_text("workers = 7\n")
    environ = {"variable": {"DUALREG_CONFIG": str(named)}}.get(how, {})
    if how == "argument over variable":
        environ = {"DUALREG_CONFIG": str(other)}
    settings = Settings.from_env(environ, config=named if how.startswith("argument") else None)
    assert (settings.workers, settings.origin("workers")) == (7, f"workers in {path}")


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    """Wherever the command runs; what the environment or a flag says is relative to the working directory."""
    (tmp_path / "etc").mkdir()
    config = tmp_path / "etc/own.toml"
    config.write_text(
        'data = "store"\ntls_cert = "c"\ntls_key = "/k"\nhtpasswd = "h"\npermissions = "p"\n'
        'token_keys = "keys"\naudit = "log"\n'
    )
    settings = Settings.from_env({"DUALREG_HTPASSWD": "own"}, config=config)
    found = {name: str(getattr(settings, name)).removeprefix(f"{tmp_path}/") for name in PATHS}
    assert found == {
        "data": "etc/store", "tls_cert": "etc/c", "tls_key": "/k", "htpasswd": "own", "permissions": "etc/p",
        "token_keys": "etc/keys", "audit": "etc/log",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bind", "unix:run/s", "unix:{}/run/s"),
        ("bind", "unix:/run/s", "unix:/run/s"),
        ("bind", "127.0.0.1:80", "127.0.0.1:80"),
        ("database", "sqlite:///c.db", "sqlite:///{}/c.db"),
        ("database", "sqlite:////c.db", "sqlite:////c.db"),
        ("database", "sqlite:///:memory:", "sqlite:///:memory:"),
        ("database", "sqlite://", "sqlite://"),
        ("database", "postgresql+psycopg://u@h/d", "postgresql+psycopg://u@h/d"),
        ("legacy_source", "registry-tree:old", "registry-tree:{}/old"),
        ("legacy_source", "v1-tree:/old", "v1-tree:/old"),
        ("legacy_source", "v1-tree:~/old", "v1-tree:~/old"),
    ],
)
def test_a_path_behind_a_scheme_is_relative_to_its_file_too(
    tmp_path: Path, name: str, value: str, expected: str
) -> None:
    """Sockets, databases and sources stay where they are, wherever the command runs."""
    (tmp_path / "dualreg.toml").write_text(f'{name} = "{value}"\n')
    in_file = Settings.from_env({}, config=tmp_path / "dualreg.toml")
    assert getattr(in_file, name) == expected.format(tmp_path)
    assert getattr(Settings.from_env({f"DUALREG_{name.upper()}": value}), name) == value


@pytest.mark.parametrize("value", ["off", "-", "", "https://keys.example/jwks"])
def test_what_is_no_path_stays(tmp_path: Path, value: str) -> None:
    """Some settings take a path or something else."""
    config = tmp_path / "etc.toml"
    config.write_text(f'audit = "{value}"\ntoken_keys = "{value}"\n')
    settings = Settings.from_env({}, config=config)
    assert (settings.audit, settings.token_keys) == (value, value)


@pytest.mark.parametrize("by", ["variable", "argument"])
def test_a_file_that_was_named_must_be_there(tmp_path: Path, by: str) -> None:
    """A typing error in a file's name does not quietly mean the defaults."""
    missing = tmp_path / "missing.toml"
    environ = {"DUALREG_CONFIG": str(missing)} if by == "variable" else {}
    with pytest.raises(SettingsInvalid, match=r"missing\.toml: no such file"):
        Settings.from_env(environ, config=missing if by == "argument" else None)


@pytest.mark.parametrize(
    "content", [b"workers =", b"workers = 1\nworkers = 2\n", b"\xff\xfe", b"[workers", None], ids=repr
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Broken TOML, broken text, and a folder in the place of the file."""
    config = tmp_path / "own.toml"
    config.mkdir() if content is None else config.write_bytes(content)
    with pytest.raises(SettingsInvalid, match=r"^.*own\.toml: ."):
        Settings.from_env({}, config=config)


_REDIRECTS = (
    "expected on, off, or a comma-separated list of one of these and of NETWORK=MODE or USER-AGENT=MODE"
)


@pytest.mark.parametrize("source", ["file", "environment", "flag"])
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("workers", "0", "expected 1 or more"),
        ("workers", "257", "expected 256 or less"),
        ("workers", "two", "expected a whole number"),
        ("workers", "", "expected a whole number"),
        ("threads", "0", "expected 1 or more"),
        ("threads", "1025", "expected 1024 or less"),
        ("access_log", "maybe", "expected true or false"),
        ("s3_redirects", "yes", _REDIRECTS),
        ("s3_redirects", "on,", _REDIRECTS),
        ("s3_redirects", "on,off", "more than one mode without a network or User-Agent"),
        ("bind", "::1:25501", "expected an IPv6 address in brackets, such as [::1]:5000"),
        ("bind", "unix:", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "127.0.0.1", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "127.0.0.1:http", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "127.0.0.1:65536", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "127.0.0.1:-1", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "127.0.0.1:\u0665000", "expected HOST:PORT, PORT or unix:PATH"),
        ("bind", "", "expected HOST:PORT, PORT or unix:PATH"),
        ("public_url", "registry.example", "expected a URL that starts with http:// or https://"),
        ("public_url", "ftp://registry.example", "expected a URL that starts with http:// or https://"),
        (
            "trusted_proxies",
            "10.0.0.1, proxy",
            "expected addresses, or networks such as 10.0.0.0/8, separated by commas",
        ),
        ("upload_ttl", "5 parsecs", "expected a duration such as 90s, 15m, 24h or 7d"),
        ("token_ttl", "59s", "expected 60s or more, which clients assume"),
        ("auth", "magic", "expected none, accounts, htpasswd or token"),
        ("token_service", "", "expected 1 to 200 printable ASCII characters without quotes"),
        ("wrokers", "2", None),
        ("origins", "2", None),
        ("model_config", "2", None),
    ],
)
def test_a_mistake_is_one_line_that_says_what_is_expected(
    tmp_path: Path, source: str, name: str, value: str, reason: str | None
) -> None:
    """The setting, its value, what is expected instead (None: no such setting), and where it was written."""
    config = tmp_path / "own.toml"
    config.write_text(f'{name} = "{value}"\n' if source == "file" else "")
    environ = {f"DUALREG_{name.upper()}": value} if source == "environment" else {}
    flags = {name: value} if source == "flag" else None
    written = {
        "file": f"{config}",
        "environment": f"DUALREG_{name.upper()}",
        "flag": "--" + name.replace("_", "-"),
    }[source]
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env(environ, config=config, flags=flags)
    (line,) = str(caught.value).splitlines()
    mistake = f'{name} = "{value}": {reason}' if reason else f'unknown setting "{name}"'
    assert line == f"{mistake} (from {written})"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("threads = 1.5", "threads = 1.5: expected a whole number"),
        ("workers = [1]", 'workers = "[1]": expected a whole number'),
        ("access_log = 7", "access_log = 7: expected true or false"),
        ("database = true", "database = true: expected text"),
        ("tls_cert = 5", "tls_cert = 5: expected a path"),
        (
            "upload_ttl = 1979-05-27",
            'upload_ttl = "1979-05-27": expected a duration such as 90s, 15m, 24h or 7d',
        ),
    ],
)
def test_types_are_named_too(tmp_path: Path, content: str, message: str) -> None:
    """A file has values of other types; pydantic's own words are not the operator's."""
    config = tmp_path / "own.toml"
    config.write_text(content)
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env({}, config=config)
    assert str(caught.value) == f"{message} (from {config})"


def test_a_mistake_shows_no_passwords_and_no_megabytes() -> None:
    """What is printed may be copied into a bug report."""
    for value, shown in (
        ("s4://me:secret@host", "s4://me:***@host"),
        ("s4://me:sec/r@et@host/?token=secret", "s4://me:***@host/?token=***"),
        ("https://secret@host", "https://***@host"),
        ("x" * 1000, "x" * 200 + "…"),
    ):
        with pytest.raises(SettingsInvalid) as caught:
            Settings.from_env({"DUALREG_STORE": value})
        expected = "expected file:///PATH or s3://BUCKET/PREFIX (from DUALREG_STORE)"
        assert str(caught.value) == f'store = "{shown}": {expected}'


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"DUALREG_TLS_CERT": "x"}, "tls_cert and tls_key are only valid together"),
        ({"DUALREG_OIDC_RULES": "x"}, "oidc_issuer and oidc_rules are only valid together"),
        ({"DUALREG_AUTH": "htpasswd"}, 'auth = "htpasswd" requires the setting htpasswd'),
    ],
)
def test_combinations_are_checked(environ: dict[str, str], message: str) -> None:
    """Some settings need others."""
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env(environ)
    assert str(caught.value) == message


def test_all_mistakes_are_reported_at_once() -> None:
    """One line a mistake, so that a configuration is put right in one go."""
    environ = {"DUALREG_WORKERS": "0", "DUALREG_NOPE": "1", "DUALREG_BIND": "x"}
    with pytest.raises(SettingsInvalid) as caught:
        Settings.from_env(environ)
    lines = str(caught.value).splitlines()
    assert sorted(line.rpartition("(from ")[2].rstrip(")") for line in lines) == sorted(environ)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"bind": "[::1]:80"}, {"bind": "[::1]:80"}),
        ({"bind": ":0"}, {"bind": ":0"}),
        ({"bind": "25501"}, {"bind": "127.0.0.1:25501"}),
        ({"bind": "unix:~/s"}, {"bind": "unix:/home/me/s"}),
        ({"data": "~/r"}, {"data": Path("/home/me/r")}),
        ({"audit": "~/log"}, {"audit": "/home/me/log"}),
        ({"bind": "unix:/run/dualreg.sock"}, {"bind": "unix:/run/dualreg.sock"}),
        ({"public_url": "https://r.example/"}, {"public_url": "https://r.example"}),
        ({"access_log": "off"}, {"access_log": False}),
        ({"store": "file:///a"}, {"store_url": "file:///a"}),
        ({"store": "file:///~/a"}, {"store_url": "file:///home/me/a"}),
        ({"database": "sqlite:///x"}, {"database_url": "sqlite:///x"}),
        ({"database": "sqlite:///~/x"}, {"database_url": "sqlite:////home/me/x"}),
        ({"database": "sqlite:////~/x"}, {"database_url": "sqlite:////~/x"}),
        pytest.param(
            {"data": "/srv/r"},
            {"store_url": "file:///srv/r", "database_url": "sqlite:////srv/r/catalog.sqlite3"},
            marks=pytest.mark.sqlite,
        ),
    ],
)
def test_good_values(
    values: dict[str, str], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values come out in the form that the rest of the program expects."""
    monkeypatch.setenv("HOME", "/home/me")
    settings = Settings.from_env({f"DUALREG_{name.upper()}": value for name, value in values.items()})
    assert {name: getattr(settings, name) for name in expected} == expected


@pytest.mark.parametrize("folder", ["plain", "with space", "100%", "a%20b", "a#b", "a?b", "ü"])
def test_any_folder_can_hold_the_data(tmp_path: Path, folder: str) -> None:
    """A data folder whose name means something in URLs is still that folder."""
    settings = Settings.from_env({"DUALREG_DATA": str(tmp_path / folder)})
    store = open_store(settings.store_url)
    store.write_link("name", b"content")
    assert (tmp_path / folder / "docker/registry/v2/repositories/name").read_bytes() == b"content"
