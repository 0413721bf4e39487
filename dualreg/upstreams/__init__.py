"""Upstreams: other registries behind this one, whose content is loaded when a client first asks for it.

A *route* says which names here are which names there. A manifest is stored when it is first asked for, and
what it names is recorded as missing; each of that is loaded when a client asks for it. By digest, what was
loaded never changes; a tag is compared with upstream once in a while, and stays as it is while that fails.

Modules, each using only those above it:

    routes      names here and there; which repositories and platforms are served
    breaker     what is still asked of a registry that does not answer
    limits      how much is downloaded from one registry at once, and how fast
    flights     blobs on their way into this one
    downloads   the blobs of one registry, each transferred once
    remote      requests to one registry, and its failures as errors of this one
    memory      what this process remembers of tags, failures and lists
    peers       registries and caches nearby that are asked before upstream
    checked     the content of one registry, whose tags are compared once in a while
    proxy       the same of the V2 API
    v1_proxy    the same of the V1 API
    composite   all upstreams, and ``legacy_source``, as the one ``Upstream`` of the services
"""
