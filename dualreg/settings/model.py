"""The settings, one by one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from dualreg.settings.layers import SettingsInvalid, chosen, explain
from dualreg.settings.values import (
    Address,
    Algorithms,
    Bridge,
    Duration,
    HeaderText,
    HttpUrl,
    Issuer,
    LegacySource,
    Sentence,
    StoreUrl,
    Word,
)

#: Settings that only make sense together.
_TOGETHER = (("tls_cert", "tls_key"), ("oidc_issuer", "oidc_rules"))
#: What each mode of ``auth`` cannot do without.
_NEEDED = {"htpasswd": ("htpasswd",), "token": ("token_realm", "token_issuer", "token_keys")}


class Settings(BaseModel):
    """What an operator can choose.

    Each field is a key of ``dualreg.toml`` and, with DUALREG_ before it, a variable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: Address = Field("127.0.0.1:5000", description="HOST:PORT, or unix:PATH, to serve on")
    data: Path = Field(Path("dualreg-data"), description="folder of the default store and database")
    store: StoreUrl = Field("", description="where the bytes are: file:///PATH; default: the data folder")
    database: str = Field("", description="SQLAlchemy URL of the catalog; default: SQLite in the data folder")
    workers: int = Field(2, ge=1, le=256, description="processes that serve")
    threads: int = Field(16, ge=1, le=1024, description="requests that each process serves at once")
    tls_cert: Path | None = Field(
        None, description="certificate chain in PEM, to serve HTTPS without a proxy"
    )
    tls_key: Path | None = Field(None, description="its private key, in PEM")
    public_url: HttpUrl = Field("", description="URL that clients use, if Location headers must be absolute")
    trusted_proxies: str = Field(
        "127.0.0.1,::1", description="addresses, by comma, whose X-Forwarded-Proto and -For are believed"
    )
    x_accel_prefix: str = Field(
        "", description="nginx location that maps the blob folder, to let it send blobs"
    )
    auth: Literal["none", "accounts", "htpasswd", "token"] = Field(
        "none", description="who says who clients are; see docs/access.md"
    )
    htpasswd: Path | None = Field(None, description="file of accounts, for auth = htpasswd")
    permissions: Path | None = Field(
        None, description="file of permission lines; default: those of `dualreg access`"
    )
    token_service: Word = Field("dualreg", description="what tokens are for: their audience")
    token_ttl: Duration = Field(
        "5m", description="how long the tokens of /token are good", validate_default=True
    )
    token_leeway: Duration = Field(
        "60s", description="by how much clocks may differ when a token is checked", validate_default=True
    )
    token_realm: HttpUrl = Field("", description="URL of the token server, for auth = token")
    token_issuer: str = Field("", description="who its tokens must be from")
    token_keys: str = Field("", description="its public keys: a file (PEM, JWKS) or the URL of a JWKS")
    token_algorithms: Algorithms = Field(
        "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA",
        description="signatures, by comma, that tokens of others may have",
    )
    oidc_issuer: Issuer = Field(
        "", description="OpenID Connect issuer whose tokens workloads may log in with"
    )
    oidc_audience: str = Field("", description="what those must be for; default: token_service")
    oidc_rules: str = Field("", description="@GROUP if CLAIM=PATTERN and ..., rules by semicolon")
    audit: str = Field(
        "",
        description="file of writes and denials, - for standard output, or off; default: in the data folder",
    )
    delete: bool = Field(default=True, description="let clients delete tags, manifests and blobs")
    sparse_indexes: bool = Field(default=False, description="take indexes whose manifests are not all here")
    cors_origins: str = Field("", description="origins, by comma, whose web pages may use the V2 API")
    notice: HeaderText = Field("", description="told to every V2 client in a Warning header")
    v1: Literal["on", "readonly", "off"] = Field("on", description="what is served of the V1 API")
    v1_reason: Sentence = Field(
        "this registry no longer does this over the V1 API; use Docker 1.6 or newer",
        description="told to V1 clients that the setting v1 refuses",
    )
    bridge: Bridge = Field(
        "both", description="whose tags each generation sees: both, v1-to-v2, v2-to-v1, off; or PATTERN=MODE"
    )
    legacy_source: LegacySource = Field(
        "",
        description="v1-tree:PATH or registry-tree:PATH, whose images come when asked for",
    )
    upload_ttl: Duration = Field("24h", description="how long an upload may be idle", validate_default=True)
    access_log: bool = Field(default=True, description="log a line for each request")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for one, other in _TOGETHER:
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"{one} and {other} must be given together")
        for name in _NEEDED.get(self.auth, ()):
            if not getattr(self, name):
                raise ValueError(f"auth = {self.auth} needs {name}")
        if self.token_ttl.total_seconds() < 60:  # noqa: PLR2004 -- what clients take for granted
            raise ValueError("token_ttl must be 60s or more")
        return self

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, config: Path | None = None, flags: Mapping[str, Any] | None = None
    ) -> Self:
        """Read the file, then the environment, then *flags*; what is read later wins.

        Args:
            config: The file; default: what DUALREG_CONFIG names, else ``dualreg.toml`` if it exists.
            flags: Values from the command line; those that are None were not given.

        Raises:
            SettingsInvalid: the file cannot be read, or a name or value is wrong.
        """
        choices = chosen(environ, config, flags or {})
        try:
            settings = cls(**{key: value for key, (value, _) in choices.items()})
        except ValidationError as error:
            raise SettingsInvalid(explain(error, choices)) from error
        settings._origins.update({key: origin for key, (_, origin) in choices.items()})
        return settings

    def origin(self, name: str) -> str:
        """Return where the setting's value came from: a key in a file, a variable, a flag, or ``default``."""
        return self._origins.get(name, "default")

    @property
    def store_url(self) -> str:
        """The store's URL, worked out from the data folder if not set."""
        return self.store or self.data.absolute().as_uri()

    @property
    def database_url(self) -> str:
        """The catalog's URL, worked out from the data folder if not set."""
        return self.database or f"sqlite:///{self.data.absolute() / 'catalog.sqlite3'}"

    @property
    def journals(self) -> Path:
        """The folder of the journals of migrations."""
        return self.data.absolute() / "migrations"

    @property
    def audit_target(self) -> str:
        """Where audit lines go: a path, ``-`` for standard output, empty for nowhere."""
        if self.audit == "off":
            return ""
        return self.audit or str(self.data.absolute() / "audit.jsonl")
