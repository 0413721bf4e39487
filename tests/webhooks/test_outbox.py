"""A state machine of moves, attempts, time and replays: what happened gets there in order, or is given up."""

from collections import defaultdict
from contextlib import ExitStack
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dualreg.catalog.moves import HistoryRow
from dualreg.catalog.webhooks import WebhookRow
from dualreg.image.names import RepositoryName, Tag
from dualreg.registry.outbox import Failure, Outbox
from dualreg.registry.webhooks import Webhooks
from tests.conftest import Clock
from tests.contracts.catalog.rows import MANIFEST, artifact, push, record
from tests.properties.registries import fresh_registry
from tests.soak import short_or_long

NAMES = [RepositoryName(name) for name in ("x", "y", "z/y")]
MANIFESTS = [MANIFEST, artifact(1)]
GIVE_UP = timedelta(days=3)
WEBHOOKS = {
    "all": WebhookRow("all", "http://a", "cloudevents", ("*",), ("push", "delete")),
    "some": WebhookRow("some", "http://b", "docker", ("x", "*y:a"), ("push",)),
}
FAILURES = st.builds(
    Failure, st.just("no"), is_down=st.booleans(), retry_after=st.sampled_from([0.0, 30.0, 9e9])
)
HOOKS, REPOSITORIES = st.sampled_from([*WEBHOOKS]), st.sampled_from(NAMES)
STEPS = st.sampled_from([1, 60, 3600, 24 * 3600, 80 * 3600])


def is_wanted(name: str, event: HistoryRow) -> bool:
    """Return whether a webhook wants an event, as its patterns are meant."""
    is_one = event.repository == "x" or event.tag == "a"
    return name == "all" or (event.new is not None and is_one)


class Outboxes(RuleBasedStateMachine):
    """Two webhooks, against a model of what each has got, has given up, and waits for."""

    def __init__(self) -> None:
        """Begin with an empty registry, whose clock moves when it is told to."""
        super().__init__()
        self._stack = ExitStack()
        self.clock = Clock()
        self.registry = self._stack.enter_context(fresh_registry(self.clock))
        self.catalog = self.registry.state.catalog
        self.outbox = Outbox(self.catalog, GIVE_UP, lambda _, longest: longest)
        self.webhooks = Webhooks(self.catalog)
        with self.catalog.begin() as tx:
            self.ids = {name: push(tx, name) for name in NAMES}
            for repository_id in self.ids.values():
                record(tx, repository_id, MANIFESTS[1])
        self.waiting: dict[str, list[int]] = defaultdict(list)
        self.dead: dict[str, list[int]] = defaultdict(list)
        self.got: dict[str, list[int]] = defaultdict(list)
        self.events: dict[int, HistoryRow] = {}
        self.failing: dict[tuple[str, str], datetime] = {}
        self.failing_hook: dict[str, datetime] = {}
        for row in WEBHOOKS.values():
            self.webhooks.add(row)

    def teardown(self) -> None:
        """Close the registry."""
        self._stack.close()

    @rule(name=REPOSITORIES, tag=st.sampled_from("ab"), to=st.sampled_from([0, 1, None]))
    def move(self, name: RepositoryName, tag: str, to: int | None) -> None:
        """Move or delete a tag."""
        with self.catalog.begin() as tx:
            assert tx.repositories.lock(name, exclusive=True)
            before = tx.history.page(name, Tag(tag), limit=1)
            if to is None:
                tx.tags.remove(self.ids[name], Tag(tag))
            else:
                tx.tags.point(self.ids[name], [Tag(tag)], MANIFESTS[to].digest)
            after = tx.history.page(name, Tag(tag), limit=1)
        if after != before:
            (event,) = after
            self.events[event.id] = event
            for hook in WEBHOOKS:
                if is_wanted(hook, event):
                    self.waiting[hook].append(event.id)

    @rule()
    def collect(self) -> None:
        """Have moves become events."""
        while self.outbox.collect():
            pass

    @rule(step=STEPS)
    def wait(self, step: int) -> None:
        """Let time pass."""
        self.clock.advance(timedelta(seconds=step))

    @rule(hook=HOOKS, count=st.integers(1, 3), failure=FAILURES | st.none())
    def attempt(self, hook: str, count: int, failure: Failure | None) -> None:
        """Send what is due: some events of the repository that has waited longest; then one fails."""
        self.collect()
        due = self.outbox.due(hook, (), 1)
        if not due:
            return
        queue = due[0]
        events = self.outbox.pending(hook, queue.repository, count)
        own = [each for each in self.waiting[hook] if self.events[each].repository == queue.repository]
        assert [each.id for each in events] == own[:count]
        delivered = [each.id for each in (events[:-1] if failure else events)]
        given_up = self.outbox.record(hook, queue, delivered, failure)
        self.got[hook] += delivered
        self.waiting[hook] = [each for each in self.waiting[hook] if each not in delivered]
        key = (hook, queue.repository)
        if delivered:
            self.failing.pop(key, None)
            self.failing_hook.pop(hook, None)
        if failure:
            since = self.failing.setdefault(key, self.clock())
            since_hook = self.failing_hook.setdefault(hook, self.clock())
            gone = {each.event.id for each in self.webhooks.events(hook, dead=True)} - {*self.dead[hook]}
            assert len(gone) == given_up
            if gone:
                assert min(since, since_hook if failure.is_down else since) <= self.clock() - GIVE_UP
            self.waiting[hook] = [each for each in self.waiting[hook] if each not in gone]
            self.dead[hook] += sorted(gone)
            self._is_left_alone(hook, queue.repository, failure, gone)

    def _is_left_alone(self, hook: str, repository: str, failure: Failure, gone: set[int]) -> None:
        """Check that what has failed is not due now, nor when others would be if the receiver is down."""
        others = [each.repository for each in self.outbox.due(hook, (), 9)]
        assert repository not in others or gone
        if failure.is_down:
            assert others == []
        self.clock.advance(timedelta(seconds=3600 if failure.retry_after > 60 else 601))
        if any(self.events[each].repository == repository for each in self.waiting[hook]):
            self.collect()
            assert self.outbox.due(hook, (), 1)

    @rule(hook=HOOKS)
    def replay_dead(self, hook: str) -> None:
        """Send again what was given up."""
        assert self.webhooks.replay(hook, dry_run=True) == len(self.dead[hook])
        assert self.webhooks.replay(hook) == len(self.dead[hook])
        self.waiting[hook] = sorted({*self.waiting[hook], *self.dead[hook]})
        self.dead[hook] = []

    @precondition(lambda self: self.events)
    @rule(hook=HOOKS, data=st.data())
    def replay_since(self, hook: str, data: st.DataObject) -> None:
        """Send again all since a move."""
        self.collect()
        first = self.events[data.draw(st.sampled_from(sorted(self.events)))]
        again = {each.id for each in self.events.values() if each.at >= first.at and is_wanted(hook, each)}
        assert self.webhooks.replay(hook, since=first.at) == len(again)
        self.waiting[hook] = sorted({*self.waiting[hook], *again})
        self.dead[hook] = [each for each in self.dead[hook] if each not in again]

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each event is where the model has it, or was not collected yet."""
        listed = {each.webhook.name: each for each in self.webhooks.list()}
        for hook in WEBHOOKS:
            waiting = [each.event.id for each in self.webhooks.events(hook)]
            position = listed[hook].progress.position
            assert waiting == [each for each in self.waiting[hook] if each <= position]
            assert [each.event.id for each in self.webhooks.events(hook, dead=True)] == sorted(
                self.dead[hook]
            )
            backlog = listed[hook].backlog
            assert (backlog.pending, backlog.dead) == (len(waiting), len(self.dead[hook]))
            assert backlog.unread == sum(each > position for each in self.events)
            assert listed[hook].progress.delivered == len(self.got[hook])


TestOutboxes = Outboxes.TestCase
TestOutboxes.settings = settings(
    max_examples=short_or_long(8, 400),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
