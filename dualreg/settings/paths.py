"""Paths: which settings are paths; relative ones count from the folder of the file that has them."""

from collections.abc import Mapping

#: Settings that are paths, or can be, or in which a path may follow something else.
PATHS: Mapping[str, str] = {
    "data": "",
    "follow": "",
    "tls_cert": "",
    "tls_key": "",
    "htpasswd": "",
    "permissions": "",
    "token_keys": "",
    "audit": "",
    "bind": "unix:",
    "monitoring_bind": "unix:",
    "database": "sqlite:///",
    "legacy_source": "[a-z0-9]+-tree:",
}
_LOGIN, _LOCATION = {"password_file": "", "ca": ""}, "[a-z0-9-]+:(?!//)"
#: The same of the members of settings that are tables.
TABLES: Mapping[str, Mapping[str, str]] = {
    "upstreams": _LOGIN,
    "mirrors": {**_LOGIN, "pull": _LOCATION, "push": _LOCATION},
    "signatures": {"keys": "", "certificates": ""},
    "login_issuers": {"client_secret_file": ""},
}
