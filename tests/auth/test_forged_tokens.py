"""Tokens that prove nothing: every way of forging one that is known is refused.

Sources: RFC 8725; CVE-2025-24976 (embedded keys), CVE-2015-9235 (algorithm confusion), CVE-2018-0114 (jwk).
"""

import base64
import datetime as dt
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from dualreg.auth import key_sources
from dualreg.auth.trust import TrustedKeys
from dualreg.image.jws import key_id
from dualreg.image.names import RepositoryName, Tag
from dualreg.remote.endpoint import Endpoint
from dualreg.remote.reach import Reach
from tests import builders
from tests.auth.conftest import Guarded, basic, bearer
from tests.properties.registries import push_v2

SERVICE, ISSUER = "registry.example", "auth.example"
READ = [{"type": "repository", "name": "team/app", "actions": ["pull"]}]
PATH = "/v2/team/app/manifests/one"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def certificate(
    key: PrivateKey, by: "Authority_ | None" = None, *, ca: bool = False, days: int = 1
) -> x509.Certificate:
    """Return a certificate of *key*, signed by *by* or itself, from two days ago until *days* from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"k{key_id_of(key)[:8]}")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(by.certificate.subject if by else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(by.key if by else key, hashes.SHA256())  # type: ignore[arg-type]  # none is Ed25519


def key_id_of(key: PrivateKey) -> str:
    """Return libtrust's id."""
    public = key.public_key()
    assert not isinstance(public, ed25519.Ed25519PublicKey)
    return key_id(public)


@dataclass
class Authority_:  # noqa: N801 -- a certificate authority, not the project's Authority
    """A key with its certificate."""

    key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        """Sign it."""
        self.certificate = certificate(self.key, ca=True)

    @property
    def pem(self) -> bytes:
        """The certificate as operators have it in files."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def der(*certificates: x509.Certificate) -> list[str]:
    """Return a chain as ``x5c`` has it."""
    return [base64.b64encode(each.public_bytes(serialization.Encoding.DER)).decode() for each in certificates]


def claims(**changed: object) -> dict[str, object]:
    """Return good claims, but for what is *changed*; None leaves one out."""
    now = int(time.time())
    own = {
        "iss": ISSUER,
        "aud": SERVICE,
        "sub": "alice",
        "exp": now + 300,
        "nbf": now,
        "iat": now,
        "jti": "1",
    }
    return {key: value for key, value in (own | {"access": READ} | changed).items() if value is not None}


def part(value: object) -> str:
    """Return a part of a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


CA = Authority_()
SIGNER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
LEAF = ec.generate_private_key(ec.SECP256R1())
STRANGER = Authority_()
THUMBPRINT = (
    base64.urlsafe_b64encode(
        hashlib.sha256(
            json.dumps(
                {
                    name: jwt.algorithms.RSAAlgorithm.to_jwk(SIGNER.public_key(), as_dict=True)[name]
                    for name in ("e", "kty", "n")
                },
                separators=(",", ":"),
                sort_keys=True,
            ).encode()
        ).digest()
    )
    .rstrip(b"=")
    .decode()
)
SIGNER_PEM = certificate(SIGNER).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def trusting(guard: Callable[..., Guarded], tmp_path: Path) -> Guarded:
    """A registry that believes ISSUER: a bundle with an authority and a signer's own certificate."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(CA.pem + SIGNER_PEM)
    own = guard(
        auth="token", token_realm="https://auth.example/token", token_issuer=ISSUER, token_service=SERVICE,
        token_keys=str(bundle),
    )  # fmt: skip
    push_v2(own.registry, RepositoryName("team/app"), Tag("one"), builders.image(builders.layer({"a": b"1"})))
    return own


def rs256(header: Mapping[str, Any] | None = None, key: PrivateKey = SIGNER, **changed: object) -> str:
    """Return a token by *key*, under the signer's libtrust id unless *header* says something else."""
    headers = {"kid": key_id_of(SIGNER)} if header is None else dict(header)
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    return jwt.encode(claims(**changed), key, algorithm, headers=headers)


GOOD: dict[str, Callable[[], str]] = {
    "issued before any time": lambda: rs256(iat=-(10**400)),
    "libtrust id": rs256,
    "thumbprint": lambda: rs256({"kid": THUMBPRINT}),
    "PS256": lambda: jwt.encode(claims(), SIGNER, "PS256", headers={"kid": THUMBPRINT}),
    "x5c, trusted itself": lambda: rs256({"x5c": der(x509.load_pem_x509_certificate(SIGNER_PEM))}),
    "x5c, chaining": lambda: rs256({"x5c": der(certificate(LEAF, CA))}, LEAF),
    "jwk with x5c": lambda: rs256({"jwk": {"x5c": der(certificate(LEAF, CA))}}, LEAF),
    "jwk with a trusted kid, truly signed": lambda: rs256({"jwk": {"kty": "RSA", "kid": THUMBPRINT}}),
    "several audiences": lambda: rs256(aud=["other", SERVICE]),
    "a clock 30 s behind": lambda: rs256(exp=int(time.time()) - 30),
    "a clock 30 s ahead": lambda: rs256(nbf=int(time.time()) + 30, iat=int(time.time()) + 30),
    "every action": lambda: rs256(access=[{"type": "repository", "name": "team/app", "actions": ["*"]}]),
    "an end in microseconds": lambda: rs256(exp=int(time.time()) * 10**6),
    "with a class": lambda: rs256(access=[READ[0] | {"class": "image"}]),
}


def confused(secret: bytes) -> str:
    """Return a token whose HMAC is made with the public key, which everybody has."""
    signed = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': key_id_of(SIGNER)})}.{part(claims())}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def jwk_of(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """Return the public half as a header carries it, under an id of somebody else."""
    return jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid}


def intermediate() -> tuple[Authority_, list[str]]:
    """Return a leaf that signs another leaf although it is no authority, and that chain."""
    middle = Authority_()
    middle.certificate = certificate(middle.key, CA, ca=False)
    return middle, der(certificate(LEAF, middle), middle.certificate)


def two_signatures() -> str:
    """Return the JSON form with a good signature and a bad one."""
    head, body, signature = rs256().split(".")
    signatures = [{"protected": head, "signature": signature}, {"protected": head, "signature": "AAAA"}]
    return json.dumps({"payload": body, "signatures": signatures})


STRANGE = STRANGER.key
assert isinstance(STRANGE, ec.EllipticCurvePrivateKey)
PEM = SIGNER.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
DER = SIGNER.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
BAD: dict[str, Callable[[], str]] = {
    "alg none": lambda: f"{part({'alg': 'none', 'kid': key_id_of(SIGNER)})}.{part(claims())}.",
    "alg NoNe": lambda: f"{part({'alg': 'NoNe', 'kid': key_id_of(SIGNER)})}.{part(claims())}.",
    "alg none with a signature": lambda: f"{part({'alg': 'none'})}.{part(claims())}.{rs256().split('.')[2]}",
    "no alg": lambda: f"{part({'kid': key_id_of(SIGNER)})}.{part(claims())}.AAAA",
    "HS256 with the public key in PEM": lambda: confused(PEM),
    "HS256 with the public key in DER": lambda: confused(DER),
    "HS256 with the certificate": lambda: confused(SIGNER_PEM),
    "HS256 with nothing": lambda: confused(b""),
    "ES256 over an RSA key": lambda: rs256({"kid": THUMBPRINT}, LEAF),
    "embedded jwk": lambda: rs256({"jwk": jwk_of(STRANGE, key_id_of(STRANGE))}, STRANGE),
    "embedded jwk under a trusted kid": lambda: rs256({"jwk": jwk_of(STRANGE, THUMBPRINT)}, STRANGE),
    "embedded jwk and a trusted kid": lambda: rs256(
        {"kid": THUMBPRINT, "jwk": jwk_of(STRANGE, THUMBPRINT)}, STRANGE
    ),
    "jku": lambda: rs256({"jku": "http://127.0.0.1:1/keys", "kid": "x"}, STRANGE),
    "x5u": lambda: rs256({"x5u": "http://127.0.0.1:1/keys", "kid": "x"}, STRANGE),
    "no kid": lambda: rs256({}),
    "unknown kid": lambda: rs256({"kid": "nobody"}),
    "kid as a path": lambda: rs256({"kid": "../../../../dev/null"}),
    "kid as SQL": lambda: rs256({"kid": "' OR 1=1 --"}),
    "kid with a NUL": lambda: rs256({"kid": THUMBPRINT + "\0"}),
    "kid of another sort": lambda: f"{part({'alg': 'RS256', 'kid': {'a': 1}})}.{part(claims())}.AAAA",
    "x5c of nothing": lambda: rs256({"x5c": []}),
    "x5c of no text": lambda: rs256({"x5c": [1]}),
    "x5c of no certificate": lambda: rs256({"x5c": ["AAAA"]}),
    "x5c that is no list": lambda: rs256({"x5c": "AAAA"}),
    "x5c of a stranger": lambda: rs256({"x5c": der(STRANGER.certificate)}, STRANGE),
    "x5c by a stranger": lambda: rs256({"x5c": der(certificate(LEAF, STRANGER), STRANGER.certificate)}, LEAF),
    "x5c trusted, but signed by a stranger": lambda: rs256({"x5c": der(CA.certificate)}, STRANGE),
    "x5c through one that is no authority": lambda: rs256({"x5c": intermediate()[1]}, LEAF),
    "x5c that has expired": lambda: rs256({"x5c": der(certificate(LEAF, CA, days=-1))}, LEAF),
    "x5c in the wrong order": lambda: rs256({"x5c": der(CA.certificate, certificate(LEAF, CA))}, LEAF),
    "another issuer": lambda: rs256(iss="other.example"),
    "no issuer": lambda: rs256(iss=None),
    "another audience": lambda: rs256(aud="other"),
    "audience of another case": lambda: rs256(aud=SERVICE.upper()),
    "no audience": lambda: rs256(aud=None),
    "no end": lambda: rs256(exp=None),
    "expired": lambda: rs256(exp=int(time.time()) - 90),
    "not yet": lambda: rs256(nbf=int(time.time()) + 90),
    "times that are none": lambda: rs256(exp="soon"),
    **{
        f"{name} {str(value)[:3]}…": lambda name=name, value=value: rs256(**{name: value})
        for name in ("exp", "nbf", "iat")
        for value in (int("9" * 4000), 10**400, float("inf"), float("nan"), [1], {})
    },
    "crit": lambda: rs256({"kid": THUMBPRINT, "crit": ["exp"]}),
    "b64": lambda: (
        f"{part({'alg': 'RS256', 'kid': THUMBPRINT, 'b64': False, 'crit': ['b64']})}.{part(claims())}.A"
    ),
    "too long": lambda: rs256(padding="x" * 50_000),
    "two signatures": two_signatures,
    "changed after signing": lambda: ".".join(
        [rs256().split(".")[0], part(claims(sub="root")), rs256().split(".")[2]]
    ),
    "without signature": lambda: ".".join([*rs256().split(".")[:2], ""]),
    "two parts": lambda: ".".join(rs256().split(".")[:2]),
    "nothing": lambda: "",
    "no JSON": lambda: "eyJ.eyJ.eyJ",
    "deep": lambda: f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{part(claims())}.AAAA",
}
LESS: dict[str, object] = {
    "another repository": [READ[0] | {"name": "team/other"}],
    "a pattern": [READ[0] | {"name": "team/*"}],
    "everything": [READ[0] | {"name": "*"}],
    "a longer name": [READ[0] | {"name": "team/app/more"}],
    "a shorter name": [READ[0] | {"name": "team"}],
    "other letters": [READ[0] | {"name": "Team/App"}],
    "encoded": [READ[0] | {"name": "team%2Fapp"}],
    "another sort": [READ[0] | {"type": "registry"}],
    "another action": [READ[0] | {"actions": ["push", "delete"]}],
    "an action in capitals": [READ[0] | {"actions": ["PULL"]}],
    "no actions": [READ[0] | {"actions": []}],
    "actions as text": [READ[0] | {"actions": "pull"}],
    "nothing": [],
    "null": None,
    "no list": {"type": "repository"},
    "a list of something else": ["repository:team/app:pull"],
}


@pytest.mark.parametrize("name", GOOD)
def test_good_tokens(trusting: Guarded, name: str) -> None:
    """What the attacks are variations of, so that each fails for its own reason."""
    assert trusting.client.get(PATH, headers=bearer(GOOD[name]())).status_code == 200
    assert trusting.client.get(PATH, headers=basic("any", GOOD[name]())).status_code == 200
    begun = trusting.client.get("/v1/repositories/team/app/images", headers=bearer(GOOD[name]()))
    assert begun.headers["X-Docker-Token"]


@pytest.mark.parametrize("name", BAD)
def test_forged_tokens(trusting: Guarded, name: str) -> None:
    """401, and never what anonymous may: something was claimed, and it is not true."""
    answer = trusting.client.get(PATH, headers=bearer(BAD[name]()))
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
    assert trusting.client.get("/v2/", headers=bearer(BAD[name]())).status_code == 401
    assert (
        trusting.client.get("/v1/repositories/team/app/tags", headers=bearer(BAD[name]())).status_code == 401
    )


@pytest.mark.parametrize("name", LESS)
def test_tokens_that_cover_less(trusting: Guarded, name: str) -> None:
    """A true token opens what it names, to the letter."""
    headers = bearer(rs256(access=LESS[name]))
    assert trusting.client.get("/v2/", headers=headers).status_code == 200
    answer = trusting.client.get(PATH, headers=headers)
    assert answer.status_code == 401
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert (
        'realm="https://auth.example/token",service="registry.example"' in answer.headers["WWW-Authenticate"]
    )


@pytest.mark.parametrize(
    "path", ["/v2/_catalog", "/v2/_catalog/", "/v2//_catalog", "/v2/%5fcatalog", "/v2/_catalog?n=1",
             "/v2/./_catalog", "/v2/_catalog%2f", "//v2/_catalog", "/V2/_catalog", "/v2/_catalog;x"],
)  # fmt: skip
@pytest.mark.parametrize("who", ["nobody", "a reader"])
def test_the_catalog_has_no_back_door(trusting: Guarded, path: str, who: str) -> None:
    """No spelling of its path shows a name to who did not ask for the catalog (CVE-2020-29662)."""
    headers = bearer(rs256()) if who == "a reader" else {}
    answer = trusting.client.get(path, headers=headers)
    assert answer.status_code in (400, 401, 404)
    assert b"team/app" not in answer.data


def test_the_issuer_decides_who_sees_the_catalog(trusting: Guarded) -> None:
    """A token for it shows all of it: there is nobody else to ask."""
    access = [{"type": "registry", "name": "catalog", "actions": ["*"]}]
    answer = trusting.client.get("/v2/_catalog", headers=bearer(rs256(access=access)))
    assert answer.json == {"repositories": ["team/app"]}


def test_v1_with_a_token_server(trusting: Guarded) -> None:
    """The token is the password; the session then carries what it grants."""
    login = basic("alice", rs256())
    assert trusting.client.get("/v1/users/", headers=login).status_code == 200
    assert trusting.client.get("/v1/users/", headers=basic("alice", "pw")).status_code == 401
    begun = trusting.client.get("/v1/repositories/team/app/images", headers=login)
    session = {"Authorization": f"Token {begun.headers['X-Docker-Token']}"}
    image = begun.json[0]["id"]
    assert trusting.client.get(f"/v1/images/{image}/json", headers=session).status_code == 200
    assert trusting.client.put("/v1/repositories/team/app/", headers=login, json=[]).status_code == 401


def test_our_own_tokens_stay_what_they_are_for(guard: Callable[..., Guarded]) -> None:
    """A V1 session is no V2 token, nor the other way round, and an open registry's is worth nothing later."""
    own = guard()
    alice = own.account("alice", ("team/app", "pull,push"))
    token = own.token("repository:team/app:pull", headers=alice)
    begun = own.client.put("/v1/repositories/team/app/", json=[], headers=alice)
    value = begun.headers["X-Docker-Token"]
    signature = value.partition("signature=")[2].partition(",")[0]
    image = f"/v1/images/{'a' * 64}/json"
    assert own.client.get(image, headers={"Authorization": f"Token {value}"}).status_code == 404
    assert own.client.get("/v2/", headers=bearer(signature)).status_code == 401
    for wrong in (value.replace(signature, token), value.replace(signature, "0"), value[:40]):
        assert own.client.get(image, headers={"Authorization": f"Token {wrong}"}).status_code == 401
    # What stands beside the signature counts for nothing.
    lying = {"Authorization": "Token " + value.replace('repository="team/app"', 'repository="team/secret"')}
    assert own.client.get(image, headers=lying).status_code == 404
    assert (
        own.client.put("/v1/repositories/team/secret/tags/x", headers=lying, json="a" * 64).status_code == 401
    )
    with guard(auth="none").client as open_:
        opened = open_.put("/v1/repositories/team/app/", json=[]).headers["X-Docker-Token"]
    assert own.client.get(image, headers={"Authorization": f"Token {opened}"}).status_code == 401


def jwks(*members: Mapping[str, Any]) -> bytes:
    """Return a key set."""
    return json.dumps({"keys": members}).encode()


SECRET = base64.urlsafe_b64encode(b"s" * 32).rstrip(b"=").decode()
ED = ed25519.Ed25519PrivateKey.generate()
ED_JWK = jwt.algorithms.OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True)


def test_key_sets(guard: Callable[..., Guarded], tmp_path: Path) -> None:
    """Keys of every sort, under their own ids; of another use, or not understood, they are none."""
    file = tmp_path / "keys.json"
    file.write_bytes(
        jwks(
            jwk_of(LEAF, "own"), ED_JWK | {"kid": "ed"}, {"kty": "oct", "k": SECRET, "kid": "secret"},
            jwk_of(STRANGE, "enc") | {"use": "enc"}, {"kty": "new", "kid": "new"}, {},
        )
    )  # fmt: skip
    settings = {"token_realm": "https://a/token", "token_issuer": ISSUER, "token_service": SERVICE}
    own = guard(auth="token", token_keys=str(file), **settings)
    hs = jwt.encode(claims(), b"s" * 32, "HS256", headers={"kid": "secret"})
    tokens = {
        "own": (rs256({"kid": "own"}, LEAF), 200),
        "ed": (jwt.encode(claims(), ED, "EdDSA", headers={"kid": "ed"}), 200),
        "enc": (rs256({"kid": "enc"}, STRANGE), 401),
        "secret": (hs, 401),
    }
    for token, status in tokens.values():
        assert own.client.get("/v2/", headers=bearer(token)).status_code == status
    listed = guard(auth="token", token_keys=str(file), token_algorithms="HS256", **settings)
    assert listed.client.get("/v2/", headers=bearer(hs)).status_code == 200
    assert listed.client.get("/v2/", headers=bearer(tokens["own"][0])).status_code == 401


def test_the_bundle_is_read_again(trusting: Guarded) -> None:
    """When it changes; one that makes no sense changes nothing."""
    file = Path(trusting.settings.token_keys)
    file.write_bytes(b"nothing")
    assert trusting.client.get(PATH, headers=bearer(rs256())).status_code == 200
    file.write_bytes(STRANGER.pem)
    assert trusting.client.get(PATH, headers=bearer(rs256())).status_code == 401
    token = rs256({"kid": key_id_of(STRANGE)}, STRANGE)
    assert trusting.client.get(PATH, headers=bearer(token)).status_code == 200


def _certificate_of_version_11() -> bytes:
    """Return a certificate that cryptography reads nothing of."""
    raw = bytearray(STRANGER.certificate.public_bytes(serialization.Encoding.DER))
    raw[raw.index(b"\xa0\x03\x02\x01\x02") + 4] = 10
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(raw) + b"-----END CERTIFICATE-----\n"


NO_KEYS = [
    b"",
    b"{}",
    b'{"keys": {}}',
    b'{"keys": []}',
    b'{"keys": [1]}',
    b"{",
    b'{"keys":' + b"[" * 100_000,
    b"-----BEGIN X-----",
    b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
    b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
    STRANGER.pem + _certificate_of_version_11(),
]


@pytest.mark.parametrize("data", NO_KEYS)
def test_keys_that_are_none(trusting: Guarded, data: bytes) -> None:
    """Said at the start, not at the first login; while the registry runs, they change nothing."""
    with pytest.raises(ValueError, match=r"\w"):
        TrustedKeys.parse(data)
    Path(trusting.settings.token_keys).write_bytes(data)
    assert trusting.client.get(PATH, headers=bearer(rs256())).status_code == 200


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """An OpenID Connect issuer: what each URL of it answers."""
    pages = {
        "https://ci.example/.well-known/openid-configuration": json.dumps(
            {"issuer": "https://ci.example", "jwks_uri": "https://ci.example/keys"}
        ).encode(),
        "https://ci.example/keys": jwks(jwk_of(LEAF, "ci")),
    }

    def fetch(url: str, _: object) -> bytes:
        if url not in pages:
            raise OSError(url)
        return pages[url]

    monkeypatch.setattr(key_sources, "fetch_document", fetch)
    return pages


OIDC = {
    "oidc_issuer": "https://ci.example",
    "oidc_audience": "hub",
    "oidc_rules": "@builds if repository=acme/app and ref=refs/heads/main; @checks if repository=acme/*",
}


def job(key: PrivateKey = LEAF, **changed: object) -> str:
    """Return the token of a job of the CI system."""
    own = {
        "iss": "https://ci.example",
        "aud": "hub",
        "sub": "job",
        "repository": "acme/app",
        "ref": "refs/heads/main",
    }
    return jwt.encode(claims(**own | {"access": None} | changed), key, "ES256", headers={"kid": "ci"})


@pytest.mark.usefixtures("provider")
def test_workloads(guard: Callable[..., Guarded]) -> None:
    """Rules make groups of claims, lines say what those may; for both APIs, and for a token of ours."""
    own = guard(**OIDC)
    own.accounts.grant("@builds", "acme/app", "pull,push")
    own.accounts.grant("@checks", "acme/*", "pull")
    push, pull = "/v2/acme/app/blobs/uploads/", "/v2/acme/other/tags/list"
    for headers in (bearer(job()), basic("ci", job())):
        assert own.client.post(push, headers=headers).status_code == 202
        assert own.client.get(pull, headers=headers).status_code == 404
        assert own.client.put("/v1/repositories/acme/app/", json=[], headers=headers).status_code == 200
        assert own.client.post("/v2/acme/other/blobs/uploads/", headers=headers).status_code == 403
        token = own.token("repository:acme/app:pull,push", "registry:catalog:*", headers=headers)
        assert own.client.post(push, headers=bearer(token)).status_code == 202
        assert own.client.get("/v2/_catalog", headers=bearer(token)).status_code == 200
    own.accounts.grant("authenticated", "acme/*", "delete")
    token = own.token("repository:acme/app:delete", headers=bearer(job()))
    for headers in (bearer(job()), bearer(token)):  # an issuer vouches for anybody; that is no account
        assert own.client.delete("/v2/acme/app/manifests/x", headers=headers).status_code in (401, 403)
    branch = bearer(job(ref="refs/heads/x"))
    assert own.client.post(push, headers=branch).status_code == 403
    assert own.client.get("/v2/acme/app/tags/list", headers=branch).status_code == 200


@pytest.mark.usefixtures("provider")
@pytest.mark.parametrize(
    "changed",
    [
        {"repository": "evil/app"}, {"repository": None}, {"repository": ["evil/app"]}, {"aud": "dualreg"},
        {"iss": "https://ci.example/"}, {"iss": "https://evil.example"}, {"exp": 1}, {"sub": None},
        {"sub": "a\0b"},
        {"key": STRANGE},
    ],
    ids=lambda changed: "stranger" if "key" in changed else repr(changed),
)  # fmt: skip
def test_workloads_that_no_rule_takes(guard: Callable[..., Guarded], changed: dict[str, Any]) -> None:
    """An issuer vouches for everybody in the world; that alone is worth nothing, not even `authenticated`."""
    own = guard(**OIDC)
    own.accounts.grant("authenticated", "*", "pull")
    assert own.client.get("/v2/", headers=bearer(job(**changed))).status_code == 401


def test_an_issuer_that_does_not_answer(guard: Callable[..., Guarded], provider: dict[str, bytes]) -> None:
    """Known keys count on; without any, nobody gets in, and everybody else does."""
    own = guard(**OIDC)
    kept = dict(provider)
    provider.clear()
    assert own.client.get("/v2/", headers=bearer(job())).status_code == 401
    assert own.client.get("/v2/", headers=own.account("alice")).status_code == 200
    again = guard(**OIDC)
    provider.update(kept)
    assert again.client.get("/v2/", headers=bearer(job())).status_code == 200
    provider.clear()
    assert again.client.get("/v2/", headers=bearer(job())).status_code == 200


def test_another_issuers_configuration_is_not_believed(
    guard: Callable[..., Guarded], provider: dict[str, bytes]
) -> None:
    """It has to say that it is the issuer's."""
    (where, *_) = provider
    provider[where] = json.dumps(
        {"issuer": "https://evil.example", "jwks_uri": "https://ci.example/keys"}
    ).encode()
    assert guard(**OIDC).client.get("/v2/", headers=bearer(job())).status_code == 401


@pytest.mark.parametrize(
    "url", ["http://keys.example/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd"]
)
def test_keys_come_over_https(url: str) -> None:
    """Or from this very machine."""
    with pytest.raises(ValueError, match="https"):
        key_sources.fetch_document(url, Reach(Endpoint("https", "keys.example", 443)))
