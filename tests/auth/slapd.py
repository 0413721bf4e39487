"""slapd, an LDAP server of Debian, with a person in two groups; and how Glewlwyd asks it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import run
from typing import Any

from tests.auth.glewlwyd import PASSWORD
from tests.programs import free_port, running, wait_for

BASE, ADMIN, ADMIN_PASSWORD = "dc=example,dc=com", "cn=admin,dc=example,dc=com", "secret"
#: The person is dora; which groups she is in is an attribute of hers, as memberOf is elsewhere.
_CONTENT = f"""
dn: {BASE}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,{BASE}
objectClass: organizationalUnit
ou: people

dn: uid=dora,ou=people,{BASE}
objectClass: inetOrgPerson
uid: dora
cn: Dora
sn: Example
mail: dora@example.com
departmentNumber: devs
departmentNumber: staff
employeeType: openid
employeeType: profile
employeeType: email
employeeType: g_profile
userPassword: {PASSWORD}
"""


@contextmanager
def slapd(folder: Path) -> Iterator[str]:
    """Run one for the block; yield its URL."""
    url, database, log = f"ldap://127.0.0.1:{free_port()}", folder / "ldap", folder / "slapd.log"
    database.mkdir()
    config = folder / "slapd.conf"
    config.write_text(
        f"""
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "{BASE}"
rootdn "{ADMIN}"
rootpw {ADMIN_PASSWORD}
directory {database}
"""
    )
    (folder / "content.ldif").write_text(_CONTENT)
    run(["slapadd", "-f", config, "-l", folder / "content.ldif"], check=True, capture_output=True)
    command = ["slapd", "-f", config, "-h", url, "-d", "0"]
    with running(command, log) as process:
        wait_for(lambda: _answers(url), process, log)
        yield url


def _answers(url: str) -> bool:
    asked = ["ldapwhoami", "-x", "-H", url, "-D", ADMIN, "-w", ADMIN_PASSWORD]
    return run(asked, check=False, capture_output=True).returncode == 0


def user_module(url: str) -> Mapping[str, Any]:
    """Return the source of users of Glewlwyd that is this server, read-only."""
    return {
        "module": "ldap",
        "name": "ldap",
        "display_name": "LDAP",
        "readonly": True,
        "enabled": True,
        "order_rank": 1,
        "parameters": {
            "uri": url,
            "bind-dn": ADMIN,
            "bind-password": ADMIN_PASSWORD,
            "base-search": f"ou=people,{BASE}",
            "search-scope": "one",
            "filter": "objectClass=inetOrgPerson",
            "username-property": "uid",
            "name-property": "cn",
            "email-property": "mail",
            "scope-property": "employeeType",
            "password-property": "userPassword",
            "password-algorithm": "SSHA",
            "rdn-property": "uid",
            "object-class": ["inetOrgPerson"],
            "data-format": {
                "groups": {"property": "departmentNumber", "multiple": True, "read": True, "write": False}
            },
        },
    }
