"""Signing tools read images that are not signed yet, if they may push; their name alone opens nothing."""

import pytest

from dualreg.image.names import RepositoryName, Tag
from dualreg.image.signatures.trust import Trust, read_keys
from dualreg.registry import Registry
from dualreg.registry.signing import Mode, On, SigningPolicies, SigningPolicy
from tests import signers
from tests.auth.conftest import Guarded, basic, bearer
from tests.auth.test_lane import IMAGE, watch
from tests.properties.registries import push_v2
from tests.signers import key_of

NAME = RepositoryName("team/app")
PATH = f"/v2/{NAME}/manifests/1"
AGENTS = ("cosign/v2.4.1 (linux; amd64) go-containerregistry/v0.20.2", "notation/1.3.0")
KEY = key_of("ecdsa")


@pytest.fixture
def registry(registry: Registry) -> Registry:
    """A registry that gives out no unsigned image of ``team/*``."""
    trust = Trust(read_keys("release.pub", signers.public_pem(KEY)), ())
    policy = SigningPolicy("release", ("team/*",), lambda: trust, Mode.REFUSE, frozenset({On.PULL}))
    return registry.requiring(SigningPolicies((policy,)))


@pytest.fixture
def guarded(guarded: Guarded) -> Guarded:
    """Accounts that may push and pull, and an image that is not signed."""
    push_v2(guarded.registry, NAME, Tag("1"), IMAGE)
    guarded.account("pusher", ("team/*", "pull,push"))
    guarded.account("puller", ("team/*", "pull"))
    guarded.accounts.grant("anonymous", "team/*", "pull")
    return guarded


def status(guarded: Guarded, headers: dict[str, str], agent: str, method: str = "GET") -> int:
    """Return the status of a pull by tag."""
    sent = {**headers, "User-Agent": agent, "Accept": IMAGE.media_type}
    return guarded.client.open(PATH, method=method, headers=sent).status_code


def scope(actions: str) -> str:
    """Return the scope of actions on the repository."""
    return f"repository:{NAME}:{actions}"


@pytest.mark.parametrize("agent", AGENTS)
def test_who_may_push_signs(guarded: Guarded, agent: str) -> None:
    """A tool reads the image with credentials that may push; other programs read nothing with them."""
    token = bearer(guarded.token(scope("pull,push"), headers=basic("pusher")))
    for headers in (basic("pusher"), token):
        assert status(guarded, headers, agent) == 200
        assert status(guarded, headers, "containerd/2.1.4") == 403
        assert status(guarded, headers, f"containerd/2.1.4 {agent}") == 403


@pytest.mark.parametrize("agent", AGENTS)
def test_who_may_only_pull_does_not(guarded: Guarded, agent: str) -> None:
    """Whatever the program calls itself, and whatever was repeated to who may; HEAD gives nothing out."""
    for _ in range(3):  # the lane repeats the last one
        assert status(guarded, basic("pusher"), agent) == 200
    assert status(guarded, basic("puller"), agent) == 403
    assert status(guarded, basic("puller"), agent, "HEAD") == 200
    for token in (guarded.token(scope("pull,push"), headers=basic("puller")), guarded.token(scope("pull"))):
        assert status(guarded, bearer(token), agent) == 401
        assert status(guarded, bearer(token), "containerd/2.1.4") == 403
    assert status(guarded, {}, agent) == 401
    assert status(guarded, {}, "containerd/2.1.4") == 403


@pytest.mark.slow
def test_a_tool_is_challenged_for_a_token_that_may_push(guarded: Guarded) -> None:
    """It has one for pulls, as for any GET; the challenge says what to ask for, and the next one does."""
    token = bearer(guarded.token(scope("pull"), headers=basic("pusher")))
    answer = guarded.client.get(PATH, headers={**token, "User-Agent": AGENTS[0]})
    assert answer.status_code == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert f'scope="{scope("pull,push")}"' in challenge
    assert 'error="insufficient_scope"' in challenge
    better = bearer(guarded.token(scope("pull,push"), headers=basic("pusher")))
    assert status(guarded, better, AGENTS[0]) == 200


def test_what_a_tool_got_is_repeated_to_it_alone(guarded: Guarded) -> None:
    """The lane repeats it to the same credentials; signed, it is for everybody, without a challenge."""
    asked = watch(guarded, {**basic("pusher"), "User-Agent": AGENTS[0], "Accept": IMAGE.media_type})
    assert asked.is_repeated(PATH)
    assert status(guarded, basic("puller"), AGENTS[0]) == 403
    signers.push(guarded.registry, NAME, signers.cosign_signature(IMAGE, KEY))
    for headers in (basic("puller"), bearer(guarded.token(scope("pull")))):
        assert {status(guarded, headers, each) for each in (*AGENTS, "containerd/2.1.4")} == {200}
