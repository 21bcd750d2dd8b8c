"""The page of `serve` and `console` in a real browser: by what a person does and sees."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command.programs import ran, running
from tests.e2e.browser import Tab, installed, opened
from tests.installed import installed as where

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = os.environ.get("ONCETASK_PICTURES")
"""Where set, the screenshots in `docs/` are taken again."""
HOSTILE = "<img src=x onerror=document.title='owned'>\u202e</script>"
ROUTES = """
[routes.check-host]
trigger = "webhook"
task_type = "CLIENT_PROBLEM_CHECK"
id = "name"
targets = "uuid"
param = {mode = 1, problemType = "offline"}
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}

[routes.later]
trigger = "webhook"
task_type = "IMAGE_SCAN"
id = "name"
submit = "sweep"
verify = {scheme = "bearer", secrets = ["env:TOKEN"]}
"""
MORE = {"TOKEN": "a-long-enough-token"}


@pytest.fixture(scope="module")
def program() -> str:
    """Chromium's."""
    return str(where(lambda: Path(installed())))


@pytest.fixture
def tab(program: str) -> Iterator[Tab]:
    """A browser of the test's own."""
    with opened(program) as page:
        yield page


class Scene:
    """A server with its page, and a sender."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder

    def deliver(self, route: str, body: str, *, token: str = MORE["TOKEN"]) -> None:
        """A delivery as its sender makes it."""
        payload = self.folder / "payload.json"
        payload.write_text(body, encoding="utf-8")
        routes = str(self.folder / "routes.toml")
        ran("send", route, str(payload), "--to", self.url, "--routes", routes, more={"TOKEN": token})


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """`oncetask serve` over a file, with a sweep every second."""
    routes = tmp_path / "routes.toml"
    routes.write_text(ROUTES)
    ledger = str(tmp_path / "ledger.sqlite")
    arguments = ("serve", "--port", "0", "--routes", str(routes), "--ledger", ledger, "--sweep-every", "1s")
    with running(*arguments, more=MORE) as server:
        url = server.until(r"serves at (http://127\.0\.0\.1:\d+)$")[1]
        server.until("Ctrl-C ends it")
        yield Scene(url, tmp_path)


def picture(tab: Tab, name: str) -> None:
    """Take it for the docs, where that is wished."""
    if PICTURES:
        tab.screenshot(DOCS / name)


def test_a_person_sees_slots_fill_and_a_delivery_and_its_event(tab: Tab, scene: Scene) -> None:
    """Live, without a reload; a click shows the event's timeline."""
    tab.open(scene.url)
    tab.until_text("0 of 10 slots in use")
    assert tab.text().count("free") == 10
    assert "No delivery yet." in tab.text()

    scene.deliver("check-host", '{"name": "web-1", "uuid": "inet-1"}')
    scene.deliver("later", '{"name": "scan-1"}')
    scene.deliver("check-host", '{"name": "web-2"}')
    scene.deliver("check-host", '{"name": "web-1", "uuid": "inet-1"}', token="another-token-0")

    tab.until_text("2 of 10 slots in use")
    for text in ("201 POST", "202 POST", "422 POST", "NoTargets", "401 POST", "Unverified: mismatch"):
        tab.until_text(text)
    picture(tab, "page-light.png")
    tab.click("webhook:check-host:web-1")
    tab.until_text("Z created ")
    assert tab.value("document.activeElement.id") == "event"
    assert '"task_id"' in tab.text()
    assert tab.complaints == []


def test_a_failed_host_is_shown_in_red_with_what_is_said_of_it(tab: Tab, scene: Scene) -> None:
    """The task's state is SUCCESS all the same; its event's table says how each host fared."""
    tab.open(scene.url)
    tab.until_text("0 of 10 slots in use")
    tab.value("""fetch('/_emulator/faults', {method: 'POST',
        body: '[{"fault": "hosts-fail", "times": 50}]'}).then(a => a.text())""")

    scene.deliver("check-host", '{"name": "web-1", "uuid": "inet-1"}')

    tab.until_text("SUCCESS, 1 of 1 host failed")
    tab.until("document.querySelector('#changes tbody td.bad')?.innerText === 'finished'")
    tab.click("webhook:check-host:web-1")
    tab.until("document.querySelector('#hosts tbody')?.innerText.includes('1003: ')")
    picture(tab, "page-event.png")
    assert tab.complaints == []


def test_what_waits_is_shown_by_route_with_its_reason(tab: Tab, scene: Scene) -> None:
    """Where the cap is reached, in the dark, too."""
    tab.open(scene.url, dark=True)
    light = "rgb(255, 255, 255)"
    assert tab.value("getComputedStyle(document.body).backgroundColor") != light
    planned = tab.value(
        "fetch('/_emulator/faults', {method: 'POST', "
        'body: \'[{"fault": "cap-reached", "times": 50}]\'}).then(a => a.text())'
    )
    assert planned == '{"planned":50}'

    for number in range(3):
        scene.deliver("check-host", f'{{"name": "web-{number}", "uuid": "inet-{number}"}}')

    tab.until("[...document.querySelectorAll('#waits tbody tr')].some(r => r.innerText.includes('Limit'))")
    assert "check-host" in tab.value("document.querySelector('#waits').innerText")
    picture(tab, "page-dark.png")


def test_what_a_sender_wrote_is_text(tab: Tab, scene: Scene) -> None:
    """No markup of it, no script, no turned text; and nothing was loaded from elsewhere."""
    tab.open(scene.url)
    scene.deliver("later", f'{{"name": "{HOSTILE.replace(chr(39), chr(39))}"}}')

    tab.until_text("<img src=x")
    tab.click("webhook:later:<img src=x onerror=document.title='owned'>\\u202e</script>")
    tab.until_text('"event_id"')

    assert tab.value("document.title") == "oncetask"
    assert tab.value("document.querySelectorAll('img').length") == 0
    assert "\u202e" not in tab.text()
    assert "\\u202e" in tab.text()
    assert {url.split("/")[2] for url in tab.requested if url.startswith("http")} == {
        scene.url.removeprefix("http://")
    }


def test_the_page_can_be_used_by_keyboard_and_by_ear(tab: Tab, scene: Scene) -> None:
    """Everything has a name; an id is typed and sent by Enter, and what is not there is said aloud."""
    tab.open(scene.url, width=360)
    tab.until_text("0 of 10 slots in use")

    assert {"Slots", "What waits", "Deliveries", "Changes", "One event"} <= set(
        tab.accessible_names("heading")
    )
    assert tab.accessible_names("textbox") == ["Event id"]
    assert all(tab.accessible_names("button"))
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    while tab.value("document.activeElement.id") != "event-id":
        tab.press("Tab")
    tab.type("webhook:later:nobody")
    tab.press("Enter")
    tab.until_text("the ledger keeps no event of that id")
    assert tab.value("document.querySelector('[role=alert]:not([hidden])').innerText")


def test_the_console_shows_another_process_s_ledger_and_changes_nothing(tab: Tab, scene: Scene) -> None:
    """Read-only: no deliveries here, the slots and one event are there."""
    scene.deliver("check-host", '{"name": "web-1", "uuid": "inet-1"}')
    more = {"ONCETASK_LEDGER": f"sqlite://{scene.folder}/ledger.sqlite"}
    with running("console", "--port", "0", more=more) as server:
        url = server.until(r"read-only, at (http://127\.0\.0\.1:\d+)/$")[1]
        tab.open(url)
        tab.until_text("1 of 10 slots in use")

        assert "Deliveries" not in tab.text()
        assert tab.value("fetch('/webhooks/check-host', {method: 'POST'}).then(a => a.status)") == 404
        tab.until("document.querySelector('#event-id') !== null")


def test_a_server_that_is_gone_is_told(tab: Tab, tmp_path: Path) -> None:
    """In words, where the page's state stands."""
    (tmp_path / "routes.toml").write_text(ROUTES)
    with running("serve", "--port", "0", "--routes", str(tmp_path / "routes.toml"), more=MORE) as server:
        url = server.until(r"serves at (http://127\.0\.0\.1:\d+)$")[1]
        server.until("Ctrl-C ends it")
        tab.open(url)
        tab.until_text("0 of 10 slots in use")

    tab.until_text("oncetask does not answer")
