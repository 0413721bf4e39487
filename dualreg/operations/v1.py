"""How much of the V1 API is served, and switching that."""

from dataclasses import dataclass

from dualreg.operations.session import Group
from dualreg.registry.v1_mode import V1Mode, V1State


@dataclass(frozen=True)
class V1Serving(Group):
    """How much of the V1 API is served."""

    def show(self) -> V1State:
        """Show how much of the V1 API is served: the stricter of the setting v1 and of what was switched."""
        return self.session.v1()

    def set(self, v1: V1Mode) -> V1State:
        """Serve no more of the V1 API than this; with on, what the setting v1 says.

        It takes effect within a second, in all processes and instances. Requests that have begun are
        finished; the next request of a push under way is refused, and its tag stays as it was.

        Args:
            v1: on, readonly (old clients pull, and do not push), or off.

        Raises:
            ValueError: this registry follows another one, whose switch it takes over.
        """
        settings = self.session.settings
        if settings.follow and settings.auth != "none" and self.session.registry.v1_switch.is_taken_over():
            raise ValueError(f"this registry follows {settings.follow}; switch V1 there")
        before = self.show()
        self.session.registry.v1_switch.set(v1)
        self.session.record("v1 set", v1=v1.value, before=before.switch.value)
        return self.show()
