"""``/api/v1/me``: who one is, and one's own password."""

from flask import Blueprint, Response

from dualreg.operations.own import Credential, Me, PasswordChange
from dualreg.operations.values import encode
from dualreg.web.api.bodies import read_members, text
from dualreg.web.context import delegation
from dualreg.web.credentials import grant
from dualreg.web.guard import Need, requires
from dualreg.web.own import change_password
from dualreg.web.responses import empty_response, json_response


def register(blueprint: Blueprint) -> None:
    """Add the routes."""
    blueprint.get("/me")(get_me)
    blueprint.put("/me/password")(put_password)


@requires(Need.ACCOUNT)
def get_me() -> Response:
    """Return the account of the credentials, its groups, and what it manages."""
    identity = grant().identity
    found = Me(
        account=identity.account,
        groups=sorted(identity.groups),
        credential=Credential.PASSWORD if identity.password else Credential.KEY,
        key=identity.key or None,
        scope=None if identity.limits is None else " ".join(map(str, identity.limits)),
        manages=[*delegation().patterns(identity)],
    )
    return json_response(encode(found))


@requires(Need.ACCOUNT)
def put_password() -> Response:
    """Change the password. Logins with the old one end: refresh tokens now, tokens within a minute."""
    members = read_members(PasswordChange)
    old, new = text(members, "old"), text(members, "new")
    change_password(grant().identity, old, new)
    return empty_response(204, {})
