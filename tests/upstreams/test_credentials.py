"""Registries that ask for a password: the reference registry with htpasswd, and one with a token server."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dualreg.assembly import open_catalog
from dualreg.auth.keyring import Keyring
from dualreg.cli import main
from dualreg.image.names import RepositoryName
from dualreg.settings import Settings
from dualreg.upstreams import checked
from tests.clients.stock import htpasswd, stock_registry
from tests.programs import dualreg_server
from tests.upstreams.world import IMAGE, There, errors_of, here

NAME = RepositoryName("hub/team/app")
SECRET = "not for everybody"


@contextmanager
def _htpasswd(folder: Path) -> Iterator[There]:
    """The reference registry, which takes the password itself."""
    with stock_registry(folder / "data", folder, auth=htpasswd(folder, "me", SECRET)) as tools:
        yield There(tools.host, f"me:{SECRET}")


@contextmanager
def _own_tokens(folder: Path) -> Iterator[There]:
    """A registry that gives tokens for itself."""
    with _token_server(folder / "data") as host:
        yield There(host, f"me:{SECRET}")


@contextmanager
def _token_server(data: Path) -> Iterator[str]:
    for words in (("account", "add", "me"), ("access", "grant", "me", "*", "pull,push")):
        done = CliRunner().invoke(main, [*words, "--data", str(data)], input=f"{SECRET}\n{SECRET}\n")
        assert done.exit_code == 0, done.output
    with dualreg_server(data, auth="accounts") as host:
        yield host


@contextmanager
def _other_tokens(folder: Path) -> Iterator[There]:
    """The reference registry, which believes the tokens of another server."""
    with stock_registry(folder / "data", folder) as tools:
        There(tools.host).put("team/app", IMAGE, "1")
    with _token_server(folder / "server") as server:
        catalog = open_catalog(Settings(data=folder / "server"))
        (folder / "trusted.pem").write_bytes(_certificate(Keyring(catalog).active().private))
        catalog.close()
        trust = {"issuer": "dualreg:accounts", "service": "dualreg", "realm": f"http://{server}/token"}
        auth = {"token": {**trust, "rootcertbundle": str(folder / "trusted.pem")}}
        with stock_registry(folder / "data", folder, auth=auth) as tools:
            yield There(tools.host)


def _certificate(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate of a key, signed by itself."""
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.slow
@pytest.mark.parametrize("run", [_htpasswd, _own_tokens, _other_tokens])
def test_credentials(
    run: Callable[[Path], AbstractContextManager[There]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come from a file that is read again; while they are wrong, what is here is served as it was."""
    monkeypatch.setattr(checked, "_RETRY", checked._RETRY * 0)
    password = tmp_path / "password"
    password.write_text(f"{SECRET}\n")
    with run(tmp_path) as there:
        if there.login:
            there.put("team/app", IMAGE, "1")
        login = {"username": "me", "password_file": str(password)}
        with here(tmp_path / "here", f"http://{there.host}", check_interval="0s", **login) as opened:
            opened.pull(NAME, IMAGE, "1")
            password.write_text("expired\n")
            stale = opened.get(f"{NAME}/manifests/1")
            assert stale.data == IMAGE.manifest
            assert stale.headers["Warning"].startswith('110 - "Response is Stale: ')
            assert errors_of(opened.get("hub/team/other/manifests/1"))[:2] == (403, "DENIED")
            password.write_text(f"{SECRET}\n")
            assert "Warning" not in opened.get(f"{NAME}/manifests/1").headers
            assert SECRET not in str(opened.settings)
        with here(tmp_path / "open", f"http://{there.host}") as opened:
            status, code, message = errors_of(opened.get(f"{NAME}/manifests/1"))
            assert (status, code) == (403, "DENIED")
            assert f"http://{there.host}" in message
