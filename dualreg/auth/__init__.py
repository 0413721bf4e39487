"""Identities, permissions and tokens: who a client is, and what it may do, the same for both dialects.

The web layer passes credentials to ``Authority`` and gets a ``Grant``. Nothing here knows Flask, the status
codes of an answer, or what a registry does.

Modules, each using only those above it:

    access        actions, scopes, ``Identity`` and ``Grant``
    passwords     bcrypt; secrets: API keys and refresh tokens; attempts: the limit of failed logins
    directories   where accounts and password hashes are: the catalog or an htpasswd file
    permissions   the rules that allow actions on repositories
    logins        a password, API key or refresh token becomes an ``Identity``
    trust         public keys of other issuers; key_sources: where they are read; keyring: our own keys
    tokens        JSON Web Tokens, signed and verified; workloads: those of an OpenID Connect issuer
    login_issuer  an OpenID Connect issuer by which people log in; issuer_metadata: where it answers
    external      accounts of people who log in by one; external_logins: from the first request to an account
    authority     ``Authority``, which joins these according to the mode
    accounts      what operators do with accounts, groups, keys and rules
    audit         the audit log
    audit_reading the audit log, read backwards
"""
