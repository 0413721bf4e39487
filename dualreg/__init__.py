"""One container registry, two dialects: Docker V1 and Docker V2/OCI over one content-addressed store.

    acting          on whose behalf tags are changed
    patterns        how operators choose repositories and tags: ``*`` matches anything
    image/          values: Digest, names, Descriptor, Manifest, V1Image, and the conversions
    storage/        bytes: the BlobStore, its drivers, and the link files that mirror names on disk
    catalog/        relations: the SQL tables that say who holds what (SQLAlchemy; SQLite and PostgreSQL)
    registry/       rules: one service per noun, called by both dialects
    auth/           accounts, permission rules and tokens, the same for both dialects
    transports      the table of places that images can be in: names and grammar, for settings and commands
    stores          the table of the kinds of stores, for settings and drivers
    migrate/        import from other registries, export to them: plan, run, verify, report, rollback
    upstreams/      other registries behind this one, whose content is fetched when a client asks for it
    webhooks/       sending events of tags to their receivers
    monitoring/     metrics: what the processes of a server count, and the page for Prometheus
    tracing/        spans of requests, sent to a collector of OpenTelemetry if that is wanted
    remote/         the HTTP client of other registries and key servers: authentication, retries, limits
    maintenance/    housekeeping while the registry serves
    operations/     what operators do, by commands and over HTTP: the table, its description, and its client
    web/            HTTP: Flask blueprints for V1 and V2, thin
    cli/            the ``dualreg`` command
    mountinfo       which files are on this machine
    ownership       the owner of files that root creates for a service
    filelocks       files that one process locks, and whether another one does
    waiting         how many threads do work that takes long
    networks        the addresses that count as one client's
    messages        what messages and logs may contain: no secrets, no control characters
    logs/           lines of the log, for people or programs, and writing them without waiting
    reloading       values that are read again when their files change
    proxies         where the settings of upstreams become what serves their content
    issuers         where the settings of issuers become what logs people in
    assembly        where settings become a running registry

Imports point down: web and cli → registry, auth, maintenance, migrate → catalog | storage → image →
errors | patterns | messages.
"""

__version__ = "0.1.0"
