"""The steps of a world, each drawn from choices: by Hypothesis, which makes them small, or by a seed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from local.clocks import NOW_S
from local.emulator import Behaviour, Fault, LateTask
from tests.model.deliveries import (
    INLINE_TYPES,
    ONE_ITEM_ROUTES,
    OWN_ID_ROUTES,
    TIMER_ROUTES,
    WEBHOOK_ROUTES,
    Coming,
    Item,
)
from tests.model.faults import (
    BEYOND_THE_LOOK,
    CREATE_FAULTS,
    FOR_EVER,
    OF_A_TYPE,
    QUERY_FAULTS,
    SILENT,
    Haunt,
    Injected,
    Late,
    Strikes,
)
from tests.model.seam import Fail, Interruption, Kill, Pause
from tests.model.world import SHORT_READ_MS, USUAL_READ_MS, Temper, World

MOST_HAUNTS = 2
FOREIGN_TYPES = ("CLIENT_PROBLEM_CHECK", "CLIENT_DEV_OPS", *INLINE_TYPES)


class Draw(Protocol):
    """Where choices come from."""

    def one_of[T](self, options: Sequence[T]) -> T:
        """One of them; the first is the simplest."""

    def whole(self, least: int, most: int) -> int:
        """A whole number, both ends included."""


def often(draw: Draw, percent: int) -> bool:
    """True in so many of a hundred cases."""
    return draw.whole(0, 99) >= 100 - percent


def temper(draw: Draw) -> Temper:
    """What a new world is like."""
    return Temper(
        ledger=draw.one_of(("memory", "memory", "memory", "sqlite")),
        read_timeout_ms=draw.one_of((USUAL_READ_MS, USUAL_READ_MS, USUAL_READ_MS, SHORT_READ_MS)),
        beyond_the_look=often(draw, 25),
        foreign_tasks=often(draw, 30),
        clocks_apart=often(draw, 25),
        index_lag_writes=draw.one_of((0, 0, 0, 4, 12)),
        haunted=often(draw, 40),
        newer_versions=often(draw, 25),
    )


# -- what comes in --------------------------------------------------------------------------------


def tick(world: World, draw: Draw) -> None:
    """A new tick."""
    _come(world, draw, draw.one_of(TIMER_ROUTES))


def delivery(world: World, draw: Draw) -> None:
    """A new delivery."""
    _come(world, draw, draw.one_of(WEBHOOK_ROUTES))


def _come(world: World, draw: Draw, route: str | None) -> None:
    most = 1 if route in ONE_ITEM_ROUTES else 4
    items = tuple(_item(world, draw, route) for _ in range(draw.whole(1, most)))
    if route in OWN_ID_ROUTES and often(draw, 10):
        items = (*items, items[0])
    coming = Coming(len(world.came), route, items, has_delivery_id=often(draw, 60))
    if often(draw, 5):
        world.emulator.behaviour.poison.add(items[-1].marker)
        world.counts["poisonous target"] += 1
    world.came.append(coming)
    world.bring(coming, _left_s(draw), interruptions(world, draw))


def _item(world: World, draw: Draw, route: str | None) -> Item:
    world.markers_made += 1
    marker = f"m{world.markers_made}"
    world.routes_of[marker] = route
    hosts = tuple(f"h{draw.whole(1, 3)}" for _ in range(draw.one_of((0, 0, 1))))
    return Item(marker, hosts, draw.one_of(INLINE_TYPES))


def again(world: World, draw: Draw) -> None:
    """An old tick or delivery, as it was or with another content."""
    if not world.came:
        return
    coming = world.came[-1 - draw.whole(0, len(world.came) - 1)]
    if coming.has_delivery_id and often(draw, 25):
        coming = coming.changed()
    world.bring(coming, _left_s(draw), interruptions(world, draw))


def sweep(world: World, draw: Draw) -> None:
    """A sweep."""
    world.sweep(_left_s(draw), interruptions(world, draw))


def _left_s(draw: Draw) -> float:
    """What is left of the invocation."""
    return draw.one_of((60.0, 60.0, 60.0, 29.0, 8.0, 6.2, 1.05))


# -- what befalls a process -----------------------------------------------------------------------


def interruptions(world: World, draw: Draw) -> list[Interruption]:
    """What befalls the next invocation."""
    kinds: tuple[str, ...] = ("kill", "fail", "answer lost")
    if world.may_nest():
        kinds = (*kinds, "pause", "pause", "freeze", "answer lost, others at work")
    return [_interruption(world, draw, draw.one_of(kinds)) for _ in range(draw.one_of((0, 0, 1, 1, 2)))]


def _interruption(world: World, draw: Draw, kind: str) -> Interruption:
    at_write, after = draw.whole(1, 10), often(draw, 50)
    if kind == "kill":
        return Kill(at_write, after)
    if kind == "fail":
        return Fail(at_write, after, operations=draw.one_of((1, 2, 5, 100)))
    if kind == "answer lost":
        return Fail(at_write, after=True, operations=1)
    if kind == "pause":
        return Pause(at_write, after, meanwhile=lambda: _others_work(world, draw))
    if kind == "freeze":
        return Pause(at_write, after, lambda: _others_go_on(world, draw), name="frozen past its claims")
    return Pause(at_write, after=True, meanwhile=lambda: _others_work(world, draw), in_doubt=True)


def _others_work(world: World, draw: Draw) -> None:
    world.clock.advance(draw.one_of((0, 0, 1, 6, 25, 70, 200)))
    if len(world.seam.frames) <= 2:
        draw.one_of((sweep, sweep, tick, delivery, again))(world, draw)


def _others_go_on(world: World, draw: Draw) -> None:
    """A process wakes after its claims and its lease have ended, and after others have worked."""
    for seconds in (draw.one_of((70, 200, 4000)), draw.one_of((1, 31, 400))):
        world.clock.advance(seconds)
        if world.may_nest():
            world.sweep(60.0)


# -- what happens outside -------------------------------------------------------------------------


def time_passes(world: World, draw: Draw) -> None:
    """Time passes."""
    world.clock.advance(draw.one_of((1, 0.3, 5, 12, 31, 60, 91, 185, 400, 1000)))


def clock_steps(world: World, draw: Draw) -> None:
    """Somebody sets the wall clock, or the service's differs; a little, or beyond every window."""
    seconds = draw.one_of((1, -1, 2, -2) if not world.temper.clocks_apart else (3, -3, 20, -20, 90, -90, 300))
    apart = world.service_now_s() + world.emulator.behaviour.clock_skew_s - world.clock.now_s()
    if not world.temper.clocks_apart and abs(apart + seconds) > 2:
        return
    world.counts["clock stepped or skewed"] += 1
    if often(draw, 50):
        world.clock.step(-seconds)
    else:
        world.emulator.behaviour.clock_skew_s += seconds
    world.note_clocks()
    world.note(f"the service's clock is now {apart + seconds:.0f} s ahead")


def service_changes(world: World, draw: Draw) -> None:
    """The service behaves otherwise from now on."""
    behaviour = world.emulator.behaviour
    lags = (0.0, 3.0, 25.0, 100.0, 200.0) if world.temper.beyond_the_look else (0.0, 3.0, 25.0, 100.0)
    choices: tuple[tuple[str, tuple[object, ...]], ...] = (
        ("task_duration_s", (30.0, 5.0, 600.0)),
        ("task_end", ("SUCCESS", "FAIL", "TIMEOUT", "NEVER")),
        ("cap", (10, 1, 2)),
        ("cap_answer", ("code", "can_create_false")),
        ("list_lag_s", lags),
        ("keeps_source", (True, False)),
        ("shows_name", (True, False)),
        ("shows_targets", (True, False)),
        ("describe_id", ("both", "TaskId", "RootTaskId")),
        ("poison_named", (True, False)),
    )
    name, values = draw.one_of(choices)
    value = draw.one_of(values)
    setattr(behaviour, name, value)
    world.note(f"service: {name} = {value}")
    if value != getattr(Behaviour(), name):
        world.counts[f"service: {name}"] += 1


def service_goes(world: World, draw: Draw) -> None:
    """Nothing listens, or does again."""
    if often(draw, 50):
        world.counts["service down"] += 1
        world.faults.is_down = True
        world.emulator.down()
        world.note("service down")
    else:
        world.note("service up")
        world.faults.is_down = False
        world.emulator.up()


def foreign_task(world: World, draw: Draw) -> None:
    """Another tool makes a task; it tells nothing of itself, or its name and source."""
    task_type = draw.one_of(FOREIGN_TYPES)
    if not world.temper.foreign_tasks:
        return
    tells = often(draw, 50)
    name = draw.one_of((task_type, "somebody-else's")) if tells else task_type
    world.counts["foreign task"] += 1
    world.note(f"foreign task {task_type}")
    world.emulator.add_foreign(task_type, name=name, source="elsewhere" if tells else None)


def calls_go_wrong(world: World, draw: Draw) -> None:
    """The next creates meet faults."""
    for _ in range(draw.whole(1, 3)):
        world.emulator.script(_create_fault(world, draw))


def queries_go_wrong(world: World, draw: Draw) -> None:
    """The next query meets a fault."""
    name = draw.one_of(tuple(QUERY_FAULTS))
    action = draw.one_of(("DescribeOnceTask", "GetOnceTaskResultInfo", "GetLastOnceTaskInfo"))
    world.emulator.script(Injected(name, QUERY_FAULTS[name], world.faults, 0), action=action)


def haunted_for_ever(world: World, draw: Draw) -> None:
    """A fault strikes one target, task type or route from now on, also when all else is healed."""
    if not world.temper.haunted or not world.routes_of or len(world.haunted.haunts) >= MOST_HAUNTS:
        return
    what = draw.one_of(("target", "type", "route"))
    names = [name for name in FOR_EVER if what == "type" or name not in OF_A_TYPE]
    name, marker = draw.one_of(names), draw.one_of(tuple(world.routes_of))
    task_type, route = draw.one_of(FOREIGN_TYPES), world.routes_of[marker]
    strikes: Mapping[str, Strikes] = {
        "target": lambda _, theirs: theirs == marker,
        "type": lambda theirs, _: theirs == task_type,
        "route": lambda _, theirs: world.routes_of.get(theirs, "") == route,
    }
    world.note(f"haunted: {name}, {what} of {marker}, {task_type}, {route}")
    world.haunted.haunts.append(Haunt(f"one {what}: {name}", FOR_EVER[name], strikes[what]))


def newer_version(world: World, draw: Draw) -> None:
    """A newer version of the code writes a record; or all of its are as they were."""
    open_keys = [key for key in world.seam.bodies if key.startswith(("event/", "lane/", "task/", "call/"))]
    if world.seam.newer:
        world.serve_newer()
    elif open_keys and world.temper.newer_versions:
        key = draw.one_of(open_keys)
        world.note(f"a newer version has {key}")
        world.counts[f"newer version's {key.partition('/')[0]}"] += 1
        world.make_newer(key)


def _create_fault(world: World, draw: Draw) -> Fault:
    faults = {**CREATE_FAULTS, **(BEYOND_THE_LOOK if world.temper.beyond_the_look else {})}
    slow = world.temper.read_timeout_ms == SHORT_READ_MS
    name = draw.one_of([name for name in faults if slow or name not in SILENT])
    fault = faults[name]
    if isinstance(fault, LateTask):
        fault = Late(fault, world.faults, NOW_S)
    return Injected(name, fault, world.faults, draw.one_of((0, 0, 0, 1, 4, 30)))


type Step = Callable[[World, Draw], None]

STEPS: tuple[Step, ...] = (
    sweep,
    tick,
    delivery,
    again,
    time_passes,
    calls_go_wrong,
    queries_go_wrong,
    service_changes,
    service_goes,
    foreign_task,
    clock_steps,
    haunted_for_ever,
    newer_version,
)
"""Every kind of step."""

COMMON_STEPS: tuple[Step, ...] = (
    *(sweep, sweep, sweep, tick, delivery, delivery, again, time_passes, time_passes, time_passes),
    *(calls_go_wrong, calls_go_wrong, calls_go_wrong),
)
"""What most steps are."""


def any_step(world: World, draw: Draw) -> None:
    """One step of any kind, the common ones more often."""
    draw.one_of((*COMMON_STEPS, *STEPS))(world, draw)
