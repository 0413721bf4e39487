"""``/api/v1/me``: who one is, and one's own password."""

from flask import Blueprint, Response, g

from dualreg.errors import TooManyAttempts
from dualreg.operations.own import Credential, Me, PasswordChange
from dualreg.operations.values import encode
from dualreg.web.api.bodies import read_members, text
from dualreg.web.context import delegation, self_service
from dualreg.web.credentials import grant
from dualreg.web.forwarded import client_address
from dualreg.web.guard import Need, requires
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
    try:
        self_service().change_password(grant().identity, old, new, client_address())
    except TooManyAttempts:
        g.locked_out = True
        raise
    return empty_response(204, {})
