"""Settings: all that an operator can choose; the only reader of the configuration file and environment."""

import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

#: What every environment variable of ours starts with.
PREFIX = "DUALREG_"
#: Names the configuration file; without it, DEFAULT_FILE is read if there is one.
CONFIG_VARIABLE = "DUALREG_CONFIG"
DEFAULT_FILE = Path("dualreg.toml")

_BRIDGE = re.compile(r"(?:[^=,\s]+=)?(?:both|v1-to-v2|v2-to-v1|off)", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``24h`` or ``7d``.

    Raises:
        ValueError: it is none of them.
    """
    match = re.fullmatch(r"([0-9]{1,6})([smhd])", text, re.ASCII)
    if match is None:
        raise ValueError("must be a number with s, m, h or d")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _duration(value: object) -> object:
    """Read a duration that is text; leave the rest to pydantic."""
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]


class SettingsInvalid(Exception):
    """A setting that does not exist or cannot have its value; the message names the key, variable or flag."""


class Settings(BaseModel):
    """What an operator can choose.

    Each field is a key of ``dualreg.toml`` and, with DUALREG_ before it, a variable.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bind: str = Field("127.0.0.1:5000", description="HOST:PORT, or unix:PATH, to serve on")
    data: Path = Field(Path("dualreg-data"), description="folder of the default store and database")
    store: str = Field("", description="where the bytes are: file:///PATH; default: the data folder")
    database: str = Field("", description="SQLAlchemy URL of the catalog; default: SQLite in the data folder")
    workers: int = Field(2, ge=1, le=256, description="processes that serve")
    threads: int = Field(16, ge=1, le=1024, description="requests that each process serves at once")
    tls_cert: Path | None = Field(
        None, description="certificate chain in PEM, to serve HTTPS without a proxy"
    )
    tls_key: Path | None = Field(None, description="its private key, in PEM")
    public_url: str = Field("", description="URL that clients use, if Location headers must be absolute")
    trusted_proxies: str = Field(
        "127.0.0.1,::1", description="addresses, by comma, whose X-Forwarded-Proto is believed"
    )
    x_accel_prefix: str = Field(
        "", description="nginx location that maps the blob folder, to let it send blobs"
    )
    delete: bool = Field(default=True, description="let clients delete tags, manifests and blobs")
    sparse_indexes: bool = Field(default=False, description="take indexes whose manifests are not all here")
    cors_origins: str = Field("", description="origins, by comma, whose web pages may use the V2 API")
    notice: str = Field("", description="told to every V2 client in a Warning header")
    v1: Literal["on", "readonly", "off"] = Field("on", description="what is served of the V1 API")
    v1_reason: str = Field(
        "this registry no longer does this over the V1 API; use Docker 1.6 or newer",
        description="told to V1 clients that the setting v1 refuses",
    )
    bridge: str = Field(
        "both", description="whose tags each generation sees: both, v1-to-v2, v2-to-v1, off; or PATTERN=MODE"
    )
    upload_ttl: Duration = Field("24h", description="how long an upload may be idle", validate_default=True)
    access_log: bool = Field(default=True, description="log a line for each request")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("bind")
    @classmethod
    def _check_bind(cls, bind: str) -> str:
        _, _, port = bind.rpartition(":")
        if not bind.startswith("unix:") and not (port.isascii() and port.isdigit() and int(port) < 65536):  # noqa: PLR2004 -- ports are 16 bits
            raise ValueError("must be HOST:PORT or unix:PATH")
        return bind

    @field_validator("store")
    @classmethod
    def _check_store(cls, store: str) -> str:
        if store and not store.startswith(("file:///", "memory:")):
            raise ValueError("must be file:///PATH")
        return store

    @field_validator("notice")
    @classmethod
    def _check_notice(cls, notice: str) -> str:
        if not notice.isascii() or not notice.isprintable() or len(notice) > 1000:  # noqa: PLR2004 -- of 4096 in all
            raise ValueError("must be up to 1000 printable ASCII characters")
        return notice

    @field_validator("bridge")
    @classmethod
    def _check_bridge(cls, bridge: str) -> str:
        entries = [entry.strip() for entry in bridge.split(",")]
        if not all(_BRIDGE.fullmatch(entry) for entry in entries):
            raise ValueError("must be both, v1-to-v2, v2-to-v1 or off, or PATTERN=MODE, by comma")
        if sum("=" not in entry for entry in entries) > 1:
            raise ValueError("has more than one mode without a pattern")
        return bridge

    @field_validator("v1_reason")
    @classmethod
    def _check_v1_reason(cls, reason: str) -> str:
        if not reason or not reason.isprintable() or len(reason) > 1000:  # noqa: PLR2004 -- as notice
            raise ValueError("must be 1 to 1000 printable characters")
        return reason

    @model_validator(mode="after")
    def _check_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be given together")
        return self

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/")

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
        path = config or (Path(named) if (named := environ.get(CONFIG_VARIABLE)) else None)
        layers = [
            {key: (value, f"{key} in {path or DEFAULT_FILE}") for key, value in _read(path).items()},
            {
                variable.removeprefix(PREFIX).lower(): (value, variable)
                for variable, value in environ.items()
                if variable.startswith(PREFIX) and variable != CONFIG_VARIABLE
            },
            {
                key: (value, f"--{key.replace('_', '-')}")
                for key, value in (flags or {}).items()
                if value is not None
            },
        ]
        chosen = {key: choice for layer in layers for key, choice in layer.items()}
        try:
            settings = cls(**{key: value for key, (value, _) in chosen.items()})
        except ValidationError as error:
            raise SettingsInvalid(_explain(error, chosen)) from error
        settings._origins.update({key: origin for key, (_, origin) in chosen.items()})
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


def _read(path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads((path or DEFAULT_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if path is None:
            return {}
        raise SettingsInvalid(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise SettingsInvalid(f"{path or DEFAULT_FILE}: {error}") from error


def _explain(error: ValidationError, chosen: Mapping[str, tuple[Any, str]]) -> str:
    """Return one line a mistake, each beginning with the name that the operator wrote."""
    lines = []
    for mistake in error.errors():
        unknown = mistake["type"] == "extra_forbidden"
        reason = "no such setting" if unknown else mistake["msg"].removeprefix("Value error, ")
        names = [f"{chosen[str(key)][1]}: " for key in mistake["loc"][:1]]  # none if two do not go together
        lines.append("".join([*names, reason]))
    return "\n".join(lines)
