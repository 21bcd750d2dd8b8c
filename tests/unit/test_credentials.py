"""Where keys come from and how long they stay: fixed, fetched, renewed, and never shown."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from oncetask.aws.sigv4 import AwsKeys
from oncetask.cached import RETRY_S, Cached, Dated
from oncetask.credentials import FAILURE_S, FetchedKeys, FixedKeys, Keys
from oncetask.errors import Code, CredentialsUnavailable
from oncetask.settings import Settings
from tests.clocks import FakeClock

FRESH_S, GOOD_S = 300.0, 600.0


class Lender:
    """Gives keys K1, K2, … each fresh and good for a time, unless it is closed."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.asked = 0
        self.is_open = True

    def lend(self) -> Dated[Keys]:
        self.asked += 1
        if not self.is_open:
            raise CredentialsUnavailable("closed", code="Closed")
        now_s = self.clock.now_s()
        return Dated(Keys(f"K{self.asked}", "s"), now_s + FRESH_S, now_s + GOOD_S)


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock()


@pytest.fixture
def lender(clock: FakeClock) -> Lender:
    """Where keys are fetched."""
    return Lender(clock)


@pytest.fixture
def fetched(lender: Lender, clock: FakeClock) -> FetchedKeys:
    """The keys under test."""
    return FetchedKeys(lender.lend, clock)


def test_nothing_is_fetched_before_somebody_asks(lender: Lender, fetched: FetchedKeys) -> None:
    """A function that asks for no task fetches no keys."""
    assert fetched is not None

    assert lender.asked == 0


def test_fresh_keys_are_fetched_once(lender: Lender, fetched: FetchedKeys, clock: FakeClock) -> None:
    """Until they are no longer fresh."""
    first = fetched.keys()
    clock.advance(FRESH_S - 1)

    assert (fetched.keys(), lender.asked) == (first, 1)


def test_keys_are_replaced_once_they_are_no_longer_fresh(fetched: FetchedKeys, clock: FakeClock) -> None:
    """By the one who asks then, while the old ones are still good."""
    fetched.keys()
    clock.advance(FRESH_S)

    assert fetched.keys().access_key_id == "K2"


def test_good_keys_outlive_a_failing_fetch(lender: Lender, fetched: FetchedKeys, clock: FakeClock) -> None:
    """What is still valid is used, and not every caller pays for another attempt."""
    first = fetched.keys()
    lender.is_open = False
    clock.advance(FRESH_S)

    given = [fetched.keys() for _ in range(3)]
    clock.advance(RETRY_S)
    fetched.keys()

    assert (given, lender.asked) == ([first] * 3, 3)


def test_keys_that_are_no_longer_good_are_given_to_nobody(
    lender: Lender, fetched: FetchedKeys, clock: FakeClock
) -> None:
    """Not even within the pause between two attempts; the fetch's own error says why."""
    fetched.keys()
    lender.is_open = False
    clock.advance(GOOD_S - 1)
    fetched.keys()
    clock.advance(1)

    with pytest.raises(CredentialsUnavailable) as raised:
        fetched.keys()

    assert raised.value.code == "Closed"


def test_a_failure_stands_for_a_moment(lender: Lender, fetched: FetchedKeys, clock: FakeClock) -> None:
    """Preparing a call and making it pay for one attempt together; afterwards a fetch may work again."""
    lender.is_open = False
    for _ in range(2):
        with pytest.raises(CredentialsUnavailable):
            fetched.keys()
    asked_while_it_stood = lender.asked
    lender.is_open = True
    clock.advance(FAILURE_S)

    assert (asked_while_it_stood, fetched.keys().access_key_id) == (1, "K2")


def test_renewed_keys_are_other_keys(lender: Lender, fetched: FetchedKeys) -> None:
    """What the service refused is not used again; one fetch brings new ones, before the next call."""
    fetched.keys()

    renewed = fetched.renew()

    assert (renewed, lender.asked, fetched.keys().access_key_id, lender.asked) == (True, 2, "K2", 2)


def test_refused_keys_are_no_fallback(lender: Lender, fetched: FetchedKeys) -> None:
    """Where renewing fails there are no keys, and its failure says why."""
    fetched.keys()
    lender.is_open = False

    renewed = fetched.renew()

    with pytest.raises(CredentialsUnavailable) as raised:
        fetched.keys()
    assert (renewed, raised.value.code, lender.asked) == (True, "Closed", 2)


def test_threads_that_ask_at_once_fetch_once(clock: FakeClock) -> None:
    """One fetches, the others wait for it."""
    together = threading.Barrier(4)
    asked: list[int] = []

    def fetch() -> Dated[int]:
        asked.append(1)
        return Dated(7, clock.now_s() + 1, clock.now_s() + 1)

    kept = Cached(fetch, clock)

    def get(_: int) -> int:
        together.wait(5)
        return kept.get()

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(get, range(4))) == [7] * 4

    assert len(asked) == 1


def test_an_old_value_says_why_it_is_old(clock: FakeClock) -> None:
    """Until a newer one is there."""
    lender = Lender(clock)
    kept = Cached(lender.lend, clock)
    failures = [kept.get() and kept.failure]
    lender.is_open = False
    clock.advance(FRESH_S)
    failures.append(kept.get() and kept.failure)
    lender.is_open = True
    clock.advance(RETRY_S)
    failures.append(kept.get() and kept.failure)

    assert [failure and failure.code for failure in failures] == [None, "Closed", None]


def test_fixed_keys_are_the_environments() -> None:
    """They never change, so there is nothing to renew."""
    fixed = FixedKeys(Keys("id", "secret"))

    assert (fixed.keys(), fixed.renew()) == (Keys("id", "secret"), False)


def test_without_an_access_key_the_variables_are_named() -> None:
    """The operator learns what to set."""
    with pytest.raises(CredentialsUnavailable, match="ALIBABA_CLOUD_ACCESS_KEY_ID") as raised:
        FixedKeys(None).keys()

    assert raised.value.code == Code.CREDENTIALS_UNAVAILABLE


def test_nothing_shows_a_secret() -> None:
    """Whatever holds one prints without it."""
    keys = Keys("id", "hidden-secret", "hidden-token")
    dated = Dated(keys, 1, 2)
    environment = {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "id",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "hidden-secret",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "hidden-token",
        "AWS_SECRET_ACCESS_KEY": "hidden-aws",
        "AWS_SESSION_TOKEN": "hidden-session",
    }
    holders = [
        keys,
        dated,
        FixedKeys(keys),
        FetchedKeys(lambda: dated, FakeClock()),
        AwsKeys("id", "hidden-aws", "hidden-session"),
        Settings.from_environment(environment),
    ]

    shown = "".join(f"{holder!r} {holder!s}" for holder in holders)

    assert "hidden" not in shown
    assert shown.count("SecretStr('**********')") >= 8


def test_keys_hide_themselves_in_a_text() -> None:
    """Services quote requests; every value of the keys becomes stars."""
    keys = Keys("id-1", "secret-1", "token-1")

    assert keys.hide("id-1 signed with secret-1 and token-1") == "*** signed with *** and ***"


def test_importing_credentials_costs_neither_tea_nor_http() -> None:
    """Keyless adds nothing to the start of a function that needs none of it."""
    code = (
        "import sys, oncetask.credentials;"
        " print({'Tea', 'darabonba', 'http.client', 'oncetask.aws.identity'} & set(sys.modules))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )

    assert done.stdout.strip() == "set()"
