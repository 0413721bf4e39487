"""Sending events to webhooks over HTTP. Which wait, and when they are due, is in ``registry.outbox``.

Modules, each using only those above it:

    mark       the file by which a server knows that there are webhooks
    showing    URLs without what may be a secret
    documents  what is sent: CloudEvents, or the envelope of the reference registry
    signing    the secrets by which receivers know who has sent it
    sending    one attempt: the request, its limits, and what its answer means
    delivery   all of them, in order for each repository, for as long as the server runs
"""
