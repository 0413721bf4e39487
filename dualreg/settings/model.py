"""The settings and their defaults."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from dualreg.settings.layers import SettingsInvalid, describe, read_layers
from dualreg.settings.login_issuers import LoginIssuers
from dualreg.settings.mirrors import Mirrors
from dualreg.settings.paths import PATHS, TABLES
from dualreg.settings.schedules import ScheduleText
from dualreg.settings.signatures import Signatures
from dualreg.settings.upstreams import Peers, Upstreams
from dualreg.settings.values import (
    UPLOAD_LIMITS,
    Address,
    Algorithms,
    Bridge,
    ByteCount,
    DatabaseTimeout,
    DatabaseUrl,
    Duration,
    HeaderText,
    HttpUrl,
    Issuer,
    Kept,
    LegacySource,
    LoginLimits,
    MinFree,
    OtherAddress,
    Printable,
    Proxies,
    Rate,
    RedirectsText,
    ServiceName,
    StoreUrl,
    TokenLifetime,
    UploadLimitsText,
    Window,
)
from dualreg.stores import folder_of, place_of, with_options

#: Settings that are only valid together.
_PAIRS = (("tls_cert", "tls_key"), ("oidc_issuer", "oidc_rules"))
#: Settings that each mode of ``auth`` requires.
_REQUIRED = {"htpasswd": ("htpasswd",), "token": ("token_realm", "token_issuer", "token_keys")}


class Settings(BaseModel):
    """What an operator can configure.

    Each field is a key of ``dualreg.toml`` and, with the prefix DUALREG_, an environment variable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: Address = Field("127.0.0.1:5000", description="address to serve on: HOST:PORT, PORT or unix:PATH")
    monitoring_bind: OtherAddress = Field(
        "", description="separate address for /livez, /readyz, /metrics: HOST:PORT, PORT or unix:PATH"
    )
    metrics_networks: Proxies = Field(
        "", description="addresses and networks that get /metrics from the main address; default: none"
    )
    data: Path = Field(Path("dualreg-data"), description="directory of the default store and database")
    store: StoreUrl = Field(
        "",
        description="where the bytes are stored: file:///PATH or s3://BUCKET/PREFIX; default: in the data "
        "directory",
    )
    store_fallback: StoreUrl = Field(
        "",
        description="store from which what the first one lacks is read, while content moves between them",
    )
    follow: Path | None = Field(
        None, description="copy of another registry's data directory, which `dualreg follow` serves read-only"
    )
    follow_interval: Duration = Field(
        "10s", description="how often it looks what has changed there", validate_default=True
    )
    follow_verify: bool = Field(
        default=False, description="read each blob there when it is found, instead of comparing its size"
    )
    s3_endpoint: HttpUrl = Field("", description="URL of the object store; default: Amazon's")
    s3_region: str = Field("", description="region of the bucket; default: that of the AWS configuration")
    s3_redirects: RedirectsText = Field(
        "off",
        description="which clients get blobs from the object store: on, off; NETWORK=MODE or USER-AGENT=MODE",
    )
    s3_redirect_endpoint: HttpUrl = Field(
        "", description="URL of the object store for clients; default: s3_endpoint"
    )
    database: DatabaseUrl = Field(
        "", description="SQLAlchemy URL of the catalog; default: SQLite in the data directory"
    )
    database_connections: int = Field(
        8, ge=2, le=1000, description="connections to PostgreSQL of each process, at most"
    )
    database_timeout: DatabaseTimeout = Field(
        "30s",
        description="how long requests wait for an answer of PostgreSQL",
        validate_default=True,
    )
    workers: int = Field(2, ge=1, le=256, description="number of server processes")
    threads: int = Field(16, ge=1, le=1024, description="number of concurrent requests per process")
    client_timeout: Duration = Field(
        "30s",
        description="how long a client may take to send or receive 16 KiB of a request or response",
        validate_default=True,
    )
    tls_cert: Path | None = Field(None, description="certificate chain (PEM), to serve HTTPS without a proxy")
    tls_key: Path | None = Field(None, description="private key of the certificate (PEM)")
    public_url: HttpUrl = Field(
        "", description="URL that clients use, which may have a path; default: the host that they ask"
    )
    trusted_proxies: Proxies = Field(
        "127.0.0.1,::1",
        description="comma-separated addresses and networks whose X-Forwarded-Proto and -For are trusted",
    )
    x_accel_prefix: str = Field(
        "", description="nginx location that maps the blob directory, to let nginx send blobs"
    )
    auth: Literal["none", "accounts", "htpasswd", "token"] = Field(
        "none", description="authentication backend: none, accounts, htpasswd or token; see docs/access.md"
    )
    login_limits: LoginLimits = Field(
        "pair=10,address=100,account=200",
        description="failed logins in 15 minutes after which further ones are refused",
    )
    login_issuers: LoginIssuers = Field(
        {}, description="OpenID Connect issuers by which people log in; see docs/login.md"
    )
    htpasswd: Path | None = Field(None, description="account file, for auth = htpasswd")
    permissions: Path | None = Field(
        None, description="file of permission rules; default: those of `dualreg access`"
    )
    token_service: ServiceName = Field("dualreg", description="audience of tokens")
    token_ttl: TokenLifetime = Field(
        "5m", description="lifetime of tokens from /token", validate_default=True
    )
    token_leeway: Duration = Field(
        "60s", description="allowed clock difference when a token is checked", validate_default=True
    )
    token_realm: HttpUrl = Field("", description="URL of the token server, for auth = token")
    token_issuer: str = Field("", description="required issuer of its tokens")
    token_keys: str = Field("", description="its public keys: a file (PEM or JWKS) or the URL of a JWKS")
    token_algorithms: Algorithms = Field(
        "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,ES512,EdDSA",
        description="comma-separated signature algorithms accepted in other issuers' tokens",
    )
    oidc_issuer: Issuer = Field(
        "", description="OpenID Connect issuer whose tokens workloads can log in with"
    )
    oidc_audience: str = Field("", description="required audience of those tokens; default: token_service")
    oidc_rules: str = Field("", description="@GROUP if CLAIM=PATTERN and ..., separated by semicolons")
    audit: str = Field(
        "",
        description="file that records writes and denials, - for standard output, or off",
    )
    signatures: Signatures = Field(
        {}, description="which images must be signed, and by which keys; see docs/signatures.md"
    )
    delete: bool = Field(default=True, description="let clients delete tags, manifests and blobs")
    sparse_indexes: bool = Field(
        default=False, description="accept indexes whose manifests are not all present"
    )
    strict_manifests: bool = Field(
        default=False, description="refuse manifests that state wrong sizes, instead of a warning"
    )
    cors_origins: str = Field("", description="comma-separated origins whose web pages may use the V2 API")
    notice: HeaderText = Field("", description="text sent to every V2 client in a Warning header")
    ui: Literal["on", "off", "readonly"] = Field(
        "on", description="the web UI under /ui/: on, off, or readonly, which changes nothing"
    )
    v1: Literal["on", "readonly", "off"] = Field(
        "on", description="how much of the V1 API is served: on, readonly or off"
    )
    v1_reason: Printable = Field(
        "this registry no longer does this over the V1 API; use Docker 1.6 or newer",
        description="explanation sent to V1 clients that v1 refuses",
    )
    bridge: Bridge = Field(
        "both",
        description="which tags each generation sees: both, v1-to-v2, v2-to-v1, off; or PATTERN=MODE",
    )
    legacy_source: LegacySource = Field(
        "",
        description="v1-tree:PATH or registry-tree:PATH; its images are imported on demand",
    )
    mirrors: Mirrors = Field(
        {}, description="rules of images that are copied from or to other registries; see docs/mirrors.md"
    )
    upstreams: Upstreams = Field(
        {},
        description="registries whose content this one serves: PATTERN=URL, or tables; docs/upstreams.md",
    )
    peers: Peers = Field(
        (), description="URLs of registries nearby that are asked before the upstreams; docs/peers.md"
    )
    upload_ttl: Duration = Field(
        "24h", description="how long an upload may be idle before `gc` discards it", validate_default=True
    )
    request_limit: Rate = Field(
        "0", description="requests of a client in a second, minute or hour, such as 600/m; 0: no limit"
    )
    upload_limits: UploadLimitsText = Field(
        UPLOAD_LIMITS,
        description="open uploads of a client, bytes of these, and of those of all clients; 0: no limit",
    )
    min_free: MinFree = Field(
        "1g,2%",
        description="room that pushes leave on the disk: a size, a share, or the lesser of both; 0: none",
    )
    fsck_rate: ByteCount = Field(
        4 << 20,
        ge=0,
        description="bytes in a second that are read in the background to verify blobs; 0: none",
    )
    gc_interval: Duration = Field(
        "1h", description="how often the server collects garbage; 0s: never", validate_default=True
    )
    gc_grace: Duration = Field(
        "24h",
        description="how long unused content stays; longer than any push takes",
        validate_default=True,
    )
    gc_untagged: Kept = Field(
        None, description="how long untagged manifests stay, or keep", validate_default=True
    )
    history_keep: Kept = Field(
        "365d", description="how long it stays known what tags pointed at, or keep", validate_default=True
    )
    undelete_grace: Duration = Field(
        "3d", description="how long what was deleted can be restored; 0s: not at all", validate_default=True
    )
    gc_window: Window = Field("", description="time of day of scheduled collections, such as 02:00-05:00")
    gc_rate: int = Field(0, ge=0, description="links and blobs that a collection handles per second; 0: any")
    gc_empty_repositories: bool = Field(
        default=False, description="let a collection delete repositories without content"
    )
    retention_schedule: ScheduleText = Field(
        "24h",
        description="how often, or at which time of day, the server deletes tags by retention rules",
    )
    webhook_networks: Proxies = Field("", description="networks of webhooks besides public addresses")
    webhook_give_up: Duration = Field("3d", description="how long events are tried", validate_default=True)
    access_log: bool = Field(default=True, description="log a line for each request to standard output")
    tracing: bool = Field(
        default=False, description="send a trace of each request to a collector, as the variables OTEL_… say"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="form of the lines of the log: text or json; see docs/logs.md"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="least severe messages that are logged: debug, info, warning or error"
    )

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator(*(name for name, before in PATHS.items() if not before), mode="before")
    @classmethod
    def _expand_home(cls, value: object) -> object:
        """Return a path with ``~`` replaced by the home directory; a shell does not always do that."""
        return os.path.expanduser(value) if isinstance(value, str | Path) else value  # noqa: PTH111 -- "" stays ""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        for one, other in _PAIRS:
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise ValueError(f"{one} and {other} are only valid together")
        if self.monitoring_bind == self.bind:
            raise ValueError("monitoring_bind must be another address than bind")
        if self.store_fallback and self.follow:
            raise ValueError("follow and store_fallback are not valid together")
        if self.store_fallback and place_of(self.located(self.store_fallback)) == place_of(self.store_url):
            raise ValueError("store_fallback must be another store than store")
        for name in _REQUIRED.get(self.auth, ()):
            if not getattr(self, name):
                raise ValueError(f'auth = "{self.auth}" requires the setting {name}')
        for name in ("store", "legacy_source", "upstreams"):
            if self.follow and getattr(self, name):
                raise ValueError(f"follow and {name} are not valid together")
        return self

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str], *, config: Path | None = None, flags: Mapping[str, Any] | None = None
    ) -> Self:
        """Return the settings of the file, the environment and *flags*; each overrides those before it.

        Args:
            config: The file; default: the one that DUALREG_CONFIG names, else the first of ``dualreg.toml``
                and ``/etc/dualreg/dualreg.toml`` that exists.
            flags: Values from the command line; None for those that are not given.

        Raises:
            SettingsInvalid: the file cannot be read, a setting is unknown, or a value is invalid.
        """
        choices = read_layers(environ, config, flags or {}, PATHS, TABLES)
        try:
            settings = cls(**{name: choice.value for name, choice in choices.items()})
        except ValidationError as error:
            raise SettingsInvalid(describe(error, choices)) from error
        settings._origins.update({name: choice.origin for name, choice in choices.items()})
        return settings

    def origin(self, name: str) -> str:
        """Return the origin of a setting's value: ``KEY in FILE``, a variable, a flag, or ``default``."""
        return self._origins.get(name, "default")

    @property
    def owned_names(self) -> Mapping[str, str]:
        """The URLs of upstreams by the prefixes under which all names are theirs."""
        prefixes = {pattern.removesuffix("*"): each.url for pattern, each in self.upstreams.items()}
        return {prefix: url for prefix, url in prefixes.items() if prefix}

    @property
    def pulls_any_name(self) -> bool:
        """Whether there is an upstream of all names, which has the repositories that were pulled from it."""
        return "*" in self.upstreams

    @property
    def store_url(self) -> str:
        """The store's URL, as ``open_store`` takes it; default: the data directory."""
        if self.follow:
            return f"follow://{quote(str(self.follow.absolute()))}?{urlencode({'own': self.data.absolute()})}"
        return self.located(self.store or self.data.absolute().as_uri())

    @property
    def store_urls(self) -> tuple[str, ...]:
        """The URLs of all stores that are served as one, the one that is written to first."""
        return (self.store_url, *([self.located(self.store_fallback)] if self.store_fallback else ()))

    def located(self, store: str, *, waiting: int | None = None) -> str:
        """Return the URL of a store as ``open_store`` takes it: with the settings of its scheme.

        Args:
            waiting: How many threads may wait for it at once; None: as many as of a server may.
        """
        options = {name: value for name, value in vars(self).items() if isinstance(value, str)}
        return with_options(store, options | {"waiting": str(waiting or self._waiting)})

    @property
    def _waiting(self) -> int:
        """How many threads may wait for an object store at once; the others are for what needs none."""
        return max(self.threads * 3 // 4, 1)

    @property
    def store_folder(self) -> Path:
        """The folder of the store; the data directory if the store is not one of files."""
        return folder_of(self.store_url) or self.data.absolute()

    @property
    def database_url(self) -> str:
        """The catalog's URL; default: an SQLite file in the data directory."""
        return self.database or f"sqlite:///{self.data.absolute() / 'catalog.sqlite3'}"

    @property
    def journals(self) -> Path:
        """The directory of the journals of migrations."""
        return self.data.absolute() / "migrations"

    @property
    def allows_sparse(self) -> bool:
        """Whether the registry may have indexes that list manifests which it does not hold."""
        return self.sparse_indexes or any(rule.platforms for rule in self.mirrors.values())

    def mirror_journals(self, name: str) -> Path:
        """The directory of the journals of the mirror rule *name*."""
        return self.data.absolute() / "mirrors" / name

    @property
    def audit_target(self) -> str:
        """The target of the audit log: a path, ``-`` for standard output, empty for none."""
        if self.audit == "off":
            return ""
        return self.audit or str(self.data.absolute() / "audit.jsonl")
