"""No accepted event is lost, none makes two tasks but where section 8 says so, every one is accounted for."""

from collections.abc import Sequence

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model import steps
from tests.model.world import World


class _Draw:
    """Choices from Hypothesis, which makes a failing run small."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def one_of[T](self, options: Sequence[T]) -> T:
        return self._data.draw(st.sampled_from(options))

    def whole(self, least: int, most: int) -> int:
        return self._data.draw(st.integers(least, most))


class Machine(RuleBasedStateMachine):
    """Any steps in any order; then every trouble ends, and the books must balance."""

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.world = World(steps.temper(_Draw(data)))

    @rule(data=st.data())
    def any_step(self, data: st.DataObject) -> None:
        steps.any_step(self.world, _Draw(data))

    @rule(data=st.data())
    def sweep(self, data: st.DataObject) -> None:
        steps.sweep(self.world, _Draw(data))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        with self.world:
            self.world.heal()
            self.world.audit()


TestTheBooksBalance = Machine.TestCase
