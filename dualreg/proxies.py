"""Proxies: builds what serves the content of other registries, as the settings say."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from dualreg.auth.audit import Audit
from dualreg.errors import UpstreamBusy
from dualreg.migrate.on_demand.loader import Loader
from dualreg.migrate.on_demand.upstream import TreeUpstream
from dualreg.migrate.transports import open_on_demand
from dualreg.registry import Registry
from dualreg.registry.traffic import Traffic
from dualreg.registry.upstream import Content
from dualreg.reloading import ReloadingFile
from dualreg.remote.client import Client
from dualreg.remote.transport import NEARBY, PROMPT
from dualreg.settings import Settings
from dualreg.settings.upstreams import UpstreamSettings
from dualreg.upstreams.composite import Composite
from dualreg.upstreams.downloads import Downloads
from dualreg.upstreams.limits import Limits
from dualreg.upstreams.peers import Peers
from dualreg.upstreams.proxy import Proxy
from dualreg.upstreams.remote import Remote
from dualreg.upstreams.routes import Route
from dualreg.upstreams.v1_proxy import V1Proxy
from dualreg.waiting import Budget, Turns

#: How long counts wait before they are written to the catalog.
_WRITE_DELAY = timedelta(seconds=10)
#: For how many seconds threads wait for their turns to ask an upstream while none comes to an end.
_PATIENCE = 3.0


def upstream_of(
    settings: Settings, registry: Registry, require: Callable[[], None], budget: Budget
) -> Composite:
    """Return what services consult for content that they do not have.

    Args:
        registry: Where content is stored; it has no upstream itself.
        require: Raises OSError if nothing may be stored now.
        budget: The threads that may wait.

    Raises:
        ValueError: a file with a password cannot be read.
    """
    imported = _imported(settings, registry, require, budget) if settings.legacy_source else None
    traffic = registry.traffic(_WRITE_DELAY)
    routed = _routed(settings, registry, require, traffic, budget)
    return Composite(registry, routed, imported, traffic.close)


def check_passwords(settings: Settings) -> None:
    """Read the passwords of all upstreams.

    Raises:
        ValueError: a file cannot be read.
    """
    for each in settings.upstreams.values():
        _password(each.password_file)


def _imported(
    settings: Settings, registry: Registry, require: Callable[[], None], budget: Budget
) -> TreeUpstream:
    """Return the source that imports into *registry*, by a quarter of the threads of each worker.

    The other threads stay free for requests that need no import. The source is opened on first use.
    """
    name, now = settings.legacy_source, registry.now

    def on_import(**facts: object) -> None:
        with closing(Audit(settings.audit_target)) as audit:
            audit.write(now(), "import", **facts)

    loader = Loader(
        registry,
        name,
        settings.journals,
        at_once=max(1, settings.threads // 4),
        on_import=on_import,
        require=require,
        budget=budget,
    )
    return TreeUpstream(loader, partial(open_on_demand, name))


def _routed(
    settings: Settings, registry: Registry, require: Callable[[], None], traffic: Traffic, budget: Budget
) -> list[tuple[Route, Content]]:
    """Return the routes with the content of each, those of longer prefixes first."""
    waiting = Turns(budget.waiting, _PATIENCE, UpstreamBusy, budget=budget)
    routed = list[tuple[Route, Content]]()
    for pattern, each in settings.upstreams.items():
        route, remote = _route(pattern, each), _remote(each, settings.threads)
        common: Any = {
            "registry": registry,
            "route": route,
            "remote": remote,
            "check_interval": each.check_interval,
            "waiting": waiting,
            "require": require,
            "count": partial(traffic.count, each.url),
        }
        if each.api == "v1":
            loader = Loader(registry, each.url, settings.journals, at_once=settings.threads, require=require)
            routed.append((route, V1Proxy(loader=loader, **common)))
            continue
        limits = Limits(each.connections or max(1, settings.threads // 2), each.rate)
        claim = partial(registry.loaded.claim, upstream=each.url)
        downloads = Downloads(
            registry.incoming, each.url, limits, require, common["count"], claim, waiting.slot
        )
        peers = Peers([_peer(url, each, settings.threads) for url in settings.peers])
        routed.append((route, Proxy(downloads=downloads, peers=peers, **common)))
    return sorted(routed, key=lambda each: len(each[0].prefix), reverse=True)


def _route(pattern: str, upstream: UpstreamSettings) -> Route:
    return Route(
        pattern.removesuffix("*"),
        upstream.url,
        upstream.hosts,
        upstream.is_hub,
        upstream.repositories,
        upstream.platforms,
    )


def _remote(upstream: UpstreamSettings, threads: int) -> Remote:
    """Return what asks an upstream, by half of the threads at most."""
    password = _password(upstream.password_file)

    def connect() -> Client:
        return Client(
            upstream.url,
            upstream.username,
            password(),
            ca=str(upstream.ca) if upstream.ca else None,
            token_servers=upstream.trusted_token_servers,
            redirect_hosts=upstream.redirect_hosts,
            repeat_failed=False,
            effort=PROMPT,
        )

    slots = Turns(upstream.connections or max(1, threads // 2), _PATIENCE, UpstreamBusy)
    return Remote(upstream.url, connect, slots, password)


def _peer(url: str, upstream: UpstreamSettings, threads: int) -> Remote:
    """Return what asks a peer for content of an upstream that it has itself.

    Source: RFC 9111, "only-if-cached".
    """
    headers = {"Cache-Control": "only-if-cached", "OCI-Namespace": upstream.hosts[0]}

    def connect() -> Client:
        return Client(url, repeat_failed=False, effort=NEARBY, headers=headers)

    return Remote(url, connect, Turns(max(1, threads // 2), _PATIENCE))


def _password(path: Path | None) -> Callable[[], str]:
    """Return what returns the password in a file, as it is now; an empty one without a file.

    Raises:
        ValueError: the file cannot be read.
    """
    if path is None:
        return str
    return ReloadingFile(lambda: path.read_text(encoding="utf-8").strip("\n"), path).get
