"""Issuers: makes what logs people in, as the setting ``login_issuers`` describes it.

It imports Authlib, which takes a tenth of a second: only registries that have such issuers import it.
"""

from collections.abc import Callable
from pathlib import Path

from dualreg.auth.authority import Authority
from dualreg.auth.external import ExternalAccounts, ExternalRules
from dualreg.auth.external_logins import ExternalLogins, Way
from dualreg.auth.issuer_metadata import IssuerMetadata
from dualreg.auth.key_sources import UrlKeys
from dualreg.auth.login_issuer import LoginIssuer
from dualreg.auth.logins import Logins
from dualreg.auth.tokens import Verifier
from dualreg.reloading import ReloadingFile
from dualreg.settings import Settings
from dualreg.settings.login_issuers import LoginIssuerSettings


def external_logins(settings: Settings, authority: Authority, logins: Logins) -> ExternalLogins:
    """Return what logs people in by the issuers that *settings* name.

    Raises:
        ValueError: the file of a secret cannot be read.
    """
    ways = {name: _way(name, each, settings, logins) for name, each in settings.login_issuers.items()}
    accounts = ExternalAccounts(logins.catalog, authority.rules)
    return ExternalLogins(ways, accounts, logins, authority.keyring, f"dualreg:{authority.service}")


def _way(name: str, each: LoginIssuerSettings, settings: Settings, logins: Logins) -> Way:
    rules = ExternalRules(
        each.account_claim, each.account_prefix, each.groups_claim, each.groups,
        frozenset(each.allowed_groups), frozenset(each.allowed_domains), each.renewal, each.granted_names,
    )  # fmt: skip
    algorithms = frozenset(entry.strip() for entry in settings.token_algorithms.split(","))
    verifier = Verifier(
        each.issuer,
        each.client_id,
        UrlKeys.of_issuer(each.issuer),
        algorithms,
        settings.token_leeway,
        logins.catalog.now,
    )
    issuer = LoginIssuer(
        name,
        each.title or name,
        each.client_id,
        _secret(each.client_secret_file),
        each.scopes,
        verifier,
        IssuerMetadata(each.issuer),
        rules.claims,
    )
    return Way(issuer, rules, each.session)


def _secret(path: Path | None) -> Callable[[], str]:
    """Return what returns the first line of a file as it is now; an empty one without a file.

    Raises:
        ValueError: the file cannot be read.
    """
    if path is None:
        return str
    return ReloadingFile(lambda: path.read_text(encoding="utf-8").partition("\n")[0].strip("\r"), path).get
