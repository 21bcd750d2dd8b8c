"""Small scenarios: a few events, a few actors, what the service does. Seconds count from the beginning."""

from collections.abc import Callable

from tests.explorer.world import CHECK, HOSTS, SCAN, World

type Scenario = Callable[[World], None]

SCENARIOS: dict[str, Scenario] = {}


def scenario(made: Scenario) -> Scenario:
    """One of SCENARIOS, under its name."""
    SCENARIOS[made.__name__] = made
    return made


# -- deliveries and sweeps --------------------------------------------------------------------


@scenario
def a_delivery_and_a_later_sweep(world: World) -> None:
    world.deliver("delivery", "a")
    world.sweeps(70)


@scenario
def a_delivery_during_a_sweep(world: World) -> None:
    world.recorded("old", route="other")
    world.deliver("delivery", "a")
    world.sweeps(0, 70)


@scenario
def a_sweep_during_a_slow_call(world: World) -> None:
    world.script("unheard")
    world.recorded("old", route="other")
    world.deliver("delivery", "a")
    world.sweeps(6, 70)


@scenario
def two_sweeps_at_once(world: World) -> None:
    world.recorded("a", "b")
    world.sweeps(0, 0, 40)


@scenario
def two_deliveries_of_one_id(world: World) -> None:
    world.deliver("first", "a")
    world.deliver("second", "a")
    world.sweeps(70)


@scenario
def two_deliveries_of_one_type(world: World) -> None:
    world.deliver("first", "a")
    world.deliver("second", "b")
    world.sweeps(70)


@scenario
def one_delivery_of_two_types(world: World) -> None:
    world.deliver("delivery", "a", "b", task_type=SCAN)
    world.deliver("other", "c")
    world.sweeps(70)


@scenario
def the_last_places_of_a_full_route(world: World) -> None:
    world.rules = world.rules._replace(queues=("event/agents",), max_open={"event/agents": 2})
    world.recorded("a", "b")
    world.script("cap", "cap")
    world.sweeps(0, 70)
    world.deliver("delivery", "c", at_s=5)


# -- lost answers -------------------------------------------------------------------------------


@scenario
def a_lost_answer_is_found(world: World) -> None:
    world.script("unheard")
    world.deliver("delivery", "a")
    world.sweeps(20, 50)


@scenario
def a_lost_answer_of_a_group_is_found(world: World) -> None:
    world.script("unheard")
    world.recorded("a", "b")
    world.sweeps(0, 40)


@scenario
def a_lost_answer_is_searched_for_in_vain(world: World) -> None:
    world.script("unmade")
    world.deliver("delivery", "a")
    world.sweeps(190, 260)


@scenario
def a_lost_group_goes_in_halves(world: World) -> None:
    world.script("unmade", "unmade")
    world.recorded("a", "b", "c")
    world.sweeps(0, 190, 260, 500)


@scenario
def a_last_task_may_hide_a_lost_one(world: World) -> None:
    world.script("unheard")
    world.deliver("delivery", "a", task_type=SCAN)
    world.foreign_task(SCAN, at_s=18)
    world.sweeps(25, 80)


@scenario
def operations_on_hosts_are_lost(world: World) -> None:
    world.script("unmade")
    world.deliver("delivery", "a", task_type=HOSTS)
    world.sweeps(190, 260)


@scenario
def an_answer_comes_after_its_lane_was_taken_over(world: World) -> None:
    world.script("slow")
    world.deliver("delivery", "a")
    world.sweeps(30, 60)


@scenario
def an_answer_comes_while_its_call_is_closed(world: World) -> None:
    world.script("slow")
    world.rules = world.rules._replace(look_s=90)
    world.deliver("delivery", "a", task_type=SCAN)
    world.sweeps(95, 100)


@scenario
def a_task_shows_before_it_is_sent_again(world: World) -> None:
    world.script("late:250")
    world.deliver("delivery", "a")
    world.sweeps(190, 260)


@scenario
def a_task_shows_after_it_was_sent_again(world: World) -> None:
    world.script("late:300")
    world.deliver("delivery", "a")
    world.sweeps(190, 260, 320)


@scenario
def no_call_is_ever_answered(world: World) -> None:
    world.service.always = "unmade"
    world.expires = True
    world.recorded("a", "b")
    world.sweeps(0, 190, 260)


@scenario
def lost_and_past_its_end(world: World) -> None:
    world.script("unheard")
    world.expires = True
    world.deliver("delivery", "a", give_up_s=world.scheduler.time_s + 40)
    world.sweeps(30, 60)


@scenario
def answered_while_it_is_given_up(world: World) -> None:
    world.script("slow")
    world.expires = True
    world.deliver("delivery", "a", give_up_s=world.scheduler.time_s + 60)
    world.sweeps(100, 160)


# -- refusals -----------------------------------------------------------------------------------


@scenario
def one_of_a_group_is_refused(world: World) -> None:
    world.service.poison = "host-b"
    world.recorded("a", "b", "c")
    world.sweeps(0, 30)


@scenario
def a_group_meets_an_unknown_code(world: World) -> None:
    world.script("unlisted", "unlisted")
    world.recorded("a", "b")
    world.sweeps(0, 30)


@scenario
def refused_and_delivered_again(world: World) -> None:
    world.script("refused")
    world.deliver("first", "a")
    world.deliver("second", "a", at_s=30)
    world.sweeps(70)


@scenario
def one_type_is_full_and_another_is_not(world: World) -> None:
    world.script("cap")
    world.recorded("a", route="one")
    world.recorded("b", route="two", task_type=SCAN)
    world.sweeps(0, 30)


@scenario
def throttled_then_not(world: World) -> None:
    world.script("throttled")
    world.recorded("a", "b")
    world.sweeps(0, 30)


@scenario
def never_permitted(world: World) -> None:
    world.service.always = "forbidden"
    world.expires = True
    world.deliver("delivery", "a", give_up_s=world.scheduler.time_s + 50)
    world.sweeps(30, 60)


@scenario
def past_its_end_before_it_was_asked_for(world: World) -> None:
    world.expires = True
    world.recorded("a", "b", give_up_s=world.scheduler.time_s + 20)
    world.deliver("delivery", "c", at_s=30)
    world.sweeps(30, 30, 90)


# -- operators ----------------------------------------------------------------------------------


@scenario
def given_up_while_it_is_asked_for(world: World) -> None:
    world.deliver("delivery", "a")
    world.give_up("a", at_s=0.02)
    world.sweeps(70)


@scenario
def given_up_while_a_sweep_begins(world: World) -> None:
    world.recorded("a")
    world.sweeps(0, 70)
    world.give_up("a", at_s=0)


@scenario
def given_up_while_it_is_searched_for(world: World) -> None:
    world.script("unheard")
    world.deliver("delivery", "a")
    world.give_up("a", at_s=30)
    world.sweeps(30, 60)


@scenario
def given_up_and_delivered_again(world: World) -> None:
    world.script("forbidden")
    world.deliver("first", "a")
    world.give_up("a", at_s=10)
    world.deliver("second", "a", at_s=20)
    world.sweeps(15, 70)


@scenario
def retried_while_it_waits(world: World) -> None:
    world.script("forbidden")
    world.deliver("delivery", "a")
    world.retry("a", at_s=5)
    world.sweeps(5, 70)


@scenario
def operations_on_hosts_are_retried_while_adopted(world: World) -> None:
    world.script("unheard")
    world.deliver("delivery", "a", task_type=HOSTS)
    world.retry("a", at_s=30)
    world.sweeps(30, 60)


@scenario
def adopted_by_an_operator(world: World) -> None:
    world.script("unheard")
    world.deliver("delivery", "a", task_type=CHECK)
    world.adopt("a", "task-0", at_s=30)
    world.sweeps(30, 60)


# -- one id, two events -------------------------------------------------------------------------


@scenario
def an_id_comes_back_after_its_time(world: World) -> None:
    world.service.task_s = 20
    world.deliver("first", "a", keep_s=60)
    world.sweeps(30, 150)
    world.deliver("second", "a", at_s=150)
