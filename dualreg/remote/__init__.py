"""The client of remote registries, and of other HTTP servers that this one depends on.

What callers may rely on:

* Credentials are sent only to the endpoint (scheme, host and port) that they are meant for: the registry, or
  the token server that it names. A redirect never carries them elsewhere, and never from https to http.
* What answers lead to, by redirects, pages, locations or token servers, is only followed to public addresses,
  and to hosts that the caller names: nobody outside can have a private network read.
* A request that can be repeated is repeated after a broken connection or a busy answer, a bounded number of
  times. A download that is cut short is resumed where it ended.
* Everything read into memory has a size limit, and every wait an end.
* Whatever the network or the remote server does, the only error raised is ``RemoteError``: one line that
  names the URL without its query, and no secret.
* One client may be used from any number of threads.

Modules, each using only those above it:

    endpoint    the scheme, host and port of a URL; ``RemoteError``; ``redact`` for messages
    connections connections that do more than those of urllib3
    deadline    how long a server may take, however it spends the time
    reach       which addresses a server may lead to
    transport   one request: retries, redirects, time and size limits; ``ask``, ``fetch`` for small documents
    challenge   authentication: Basic, or a token from the server that a challenge names
    response    an answer that was read whole, and its parts: JSON, sizes, the link to the next page
    resume      a body that is resumed when it is cut short
    client      ``Client``: requests and downloads from one registry
    device_login  an API key of a registry, by a code that somebody enters in a browser
    v1          ``V1Client``: the same with the session tokens of the Docker V1 API

Nothing here knows what the documents mean, or how an operator configures credentials.
"""
