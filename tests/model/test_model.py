"""No accepted event is lost, none makes two tasks but by the README's limits, every one is accounted for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.model import steps
from tests.model.books import Violation
from tests.model.world import World

SHORT = settings(
    derandomize=True,
    deadline=None,
    max_examples=45,
    stateful_step_count=30,
    phases=[Phase.generate],  # a world's story tells more than minutes of making it smaller
    suppress_health_check=[HealthCheck.too_slow],
)
"""A run short enough for every change; `tests.model.soak` is the long one."""


class Choices:
    """Choices from Hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def one_of[T](self, options: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(options))

    def whole(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))


class Machine(RuleBasedStateMachine):
    """Any steps in any order; then every trouble ends, and the books must balance."""

    world: World | None = None
    is_broken = False

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        """A new world."""
        self.world = World(steps.temper(Choices(data)))

    @rule(data=st.data())
    def anything(self, data: st.DataObject) -> None:
        """One step of any kind."""
        with self._kept() as world:
            steps.any_step(world, Choices(data))

    def teardown(self) -> None:
        """The world healed and its books checked."""
        if self.world is None:
            return
        with self.world:
            if not self.is_broken:
                with self._kept() as world:
                    world.heal()
                    world.audit()

    @contextmanager
    def _kept(self) -> Iterator[World]:
        """The world; a broken promise comes with its story."""
        assert self.world is not None
        try:
            yield self.world
        except Violation as violation:
            self.is_broken = True
            violation.add_note("\n".join(self.world.story))
            raise


def test_the_books_balance_whatever_happens_in_between() -> None:
    """Whatever comes, fails, dies or stands still: healed, every event and task is accounted for."""
    run_state_machine_as_test(Machine, settings=SHORT)
