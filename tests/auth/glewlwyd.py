"""Glewlwyd, an OpenID Connect server of Debian: started for a test, and asked as a browser asks it."""

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.programs import free_port, running, wait_for

_SCHEMA = Path("/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3")
_MODULES = Path("/usr/lib/glewlwyd")
SECRET, PASSWORD, ADMIN = "the-secret-of-the-client", "correct horse battery", "password"
SCOPES = ["openid", "profile", "email"]


class _Unredirected(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Glewlwyd:
    """A running server.

    Attributes:
        url: With a slash at its end.
    """

    url: str

    @property
    def issuer(self) -> str:
        """Its name as an issuer."""
        return f"{self.url}api/oidc"

    def session(self, user: str = "admin", password: str = ADMIN) -> "Session":
        """Log in."""
        session = Session(self.url)
        session.send("POST", "auth/", {"username": user, "password": password})
        return session

    def set_up(self, redirect_uri: str) -> None:
        """Be an issuer with one client, and with users who have groups."""
        admin = self.session()
        users = admin.send("GET", "mod/user/database")
        users["parameters"]["data-format"]["groups"] = {"multiple": True, "read": True, "write": True}
        admin.send("PUT", "mod/user/database", users)
        admin.send("PUT", "mod/user/database/reset")
        plugin = {"module": "oidc", "name": "oidc", "display_name": "OIDC", "enabled": True}
        admin.send("POST", "mod/plugin/", plugin | {"parameters": self._parameters()})
        for name in SCOPES[1:]:
            scope = {"name": name, "display_name": name, "password_required": False, "scheme": {}}
            admin.send("POST", "scope/", scope)
        client = {
            "client_id": "dualreg",
            "name": "dualreg",
            "source": "database",
            "confidential": True,
            "client_secret": SECRET,
            "token_endpoint_auth_method": ["client_secret_basic"],
            "redirect_uri": [redirect_uri],
            "authorization_type": ["code", "device_authorization", "id_token"],
            "scope": [],
            "enabled": True,
        }
        admin.send("POST", "client/", client)

    def add_user(self, name: str, **more: object) -> None:
        """Add a user of its own database."""
        user = {"username": name, "name": name.title(), "password": PASSWORD, "source": "database"}
        self.session().send("POST", "user/", user | {"scope": [*SCOPES, "g_profile"], "enabled": True} | more)

    def _parameters(self) -> Mapping[str, Any]:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        encoding = serialization.Encoding.PEM
        private = key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        return {
            "iss": self.issuer,
            "subject-type": "public",
            "jwt-type": "rsa",
            "jwt-key-size": "256",
            "key": private,
            "cert": public.decode(),
            "access-token-duration": 600,
            "refresh-token-duration": 600,
            "code-duration": 60,
            "refresh-token-rolling": False,
            "allow-non-oidc": True,
            "auth-type-code-enabled": True,
            "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": True,
            "auth-type-password-enabled": False,
            "auth-type-client-enabled": False,
            "auth-type-device-enabled": True,
            "auth-type-refresh-enabled": True,
            "device-authorization-expiration": 600,
            "device-authorization-interval": 1,
            "pkce-allowed": True,
            "pkce-required": True,
            "jwks-show": True,
            "oauth-as-iss-id": True,
            "name-claim": "mandatory",
            "email-claim": "mandatory",
            "scope": [],
            "claims": [
                {
                    "name": "preferred_username",
                    "user-property": "username",
                    "type": "string",
                    "mandatory": True,
                },
                {"name": "groups", "user-property": "groups", "type": "string", "mandatory": True},
            ],
        }


@dataclass
class Session:
    """A browser that is logged in at the server."""

    url: str

    def __post_init__(self) -> None:
        """Begin without cookies."""
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies, _Unredirected())

    def send(self, method: str, path: str, document: object = None) -> Any:
        """Send a request to its API; return the document of the answer."""
        body = None if document is None else json.dumps(document).encode()
        asked = urllib.request.Request(  # noqa: S310 -- of ours
            f"{self.url}api/{path}", body, {"Content-Type": "application/json"}, method=method
        )
        try:
            with closing(self._opener.open(asked)) as answer:
                found = answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from error
        return json.loads(found) if found else None

    def follow(self, url: str) -> str:
        """Open a page; return where it redirects to."""
        with pytest.raises(urllib.error.HTTPError) as raised, closing(self._opener.open(url)):
            pass
        raised.value.close()
        assert raised.value.code in (302, 303)
        return str(raised.value.headers["Location"])

    def authorize(self, url: str) -> str:
        """Grant what the client asks for, as the pages of the server do; return where the browser is sent."""
        self.send("PUT", "auth/grant/dualreg", {"scope": " ".join(SCOPES)})
        split = urlsplit(url)
        query = dict(parse_qsl(split.query)) | {"g_continue": ""}
        return self.follow(split._replace(query=urlencode(query)).geturl())

    def confirm(self, uri: str, code: str) -> None:
        """Enter the code of a device."""
        self.send("PUT", "auth/grant/dualreg", {"scope": " ".join(SCOPES)})
        location = self.follow(f"{uri}?code={code}&g_continue")
        assert "prompt=deviceComplete" in location, location


@contextmanager
def glewlwyd(folder: Path) -> Iterator[Glewlwyd]:
    """Run one for the block, with its files in *folder*."""
    port = free_port()
    server, database, log = Glewlwyd(f"http://127.0.0.1:{port}/"), folder / "db", folder / "log"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))
    config = folder / "glewlwyd.conf"
    config.write_text(
        f"""
port={port}
bind_address="127.0.0.1"
external_url="{server.url}"
login_url="login.html"
api_prefix="api"
log_mode="console"
log_level="WARNING"
cookie_secure=0
cookie_same_site="empty"
session_expiration=3600
admin_session_authentication="cookie"
profile_session_authentication="cookie"
login_api_enabled=true
session_key="GLEWLWYD2_SESSION_ID"
admin_scope="g_admin"
profile_scope="g_profile"
user_module_path="{_MODULES / "user"}"
client_module_path="{_MODULES / "client"}"
user_auth_scheme_module_path="{_MODULES / "scheme"}"
plugin_module_path="{_MODULES / "plugin"}"
use_secure_connection=false
secure_connection_key_file="/nothing"
secure_connection_pem_file="/nothing"
secure_connection_ca_file="/nothing"
hash_algorithm="SHA512"
database = {{ type = "sqlite3"; path = "{database}"; }};
"""
    )
    with running(["glewlwyd", f"--config-file={config}"], log) as process:
        wait_for(lambda: _answers(server.url), process, log)
        yield server


def _answers(url: str) -> bool:
    try:
        with closing(urllib.request.urlopen(f"{url}config")) as answer:  # noqa: S310 -- of ours
            return bool(answer.status == 200)
    except OSError:
        return False
