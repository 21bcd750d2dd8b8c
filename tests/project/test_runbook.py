"""docs/runbook.md and docs/deploy.md say what template.yml and the code say, and their examples work."""

import json
import re
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.command import oncetask
from local.ledger import ACTIONS
from local.tools import PROJECT
from oncetask.errors import Code, Kind
from oncetask.handlers import telemetry
from oncetask.handlers.timer import Tick
from oncetask.models import TASK_TYPES, Status, Trigger
from oncetask.routing.routes import load_routes
from oncetask.settings import Settings
from oncetask.webhooks.http import Delivery
from tests import shipped
from tests.project.test_template import METRICS

RUNBOOK = PROJECT / "docs" / "runbook.md"
DEPLOY = PROJECT / "docs" / "deploy.md"
PARTS = ("**Means.**", "**Look.**", "**Do.**", "**Goes away**")
DESCRIPTION_CHARS = 1024  # the most that CloudWatch keeps
AWS_WORDS = {  # theirs, not ours
    *("requestPayload", "responsePayload", "ERROR_CODE", "ERROR_MESSAGE", "SCHEDULE_ARN", "SCHEDULED_TIME"),
    *("MemorySize", "DisableExecuteApiEndpoint", "REPORT", "doctor", "key", "row"),
    *(
        "AccessDenied",
        "AccessDeniedException",
        "InternalFailure",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    ),
    *("make", "OnceTaskLimitExceeded"),
}
each_page = pytest.mark.parametrize("path", [RUNBOOK, DEPLOY], ids=lambda path: path.stem)


class _Loader(yaml.SafeLoader):
    """YAML whose `!Ref` and the like are what stands behind them."""


def _untagged(loader: _Loader, _tag: str, node: yaml.Node) -> Any:  # noqa: ANN401 - any YAML
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _untagged)


def loaded(text: str) -> dict[str, Any]:
    """A YAML document."""
    return dict(yaml.load(text, _Loader))  # noqa: S506 - a SafeLoader


@cache
def template() -> dict[str, Any]:
    """template.yml."""
    return loaded((PROJECT / "template.yml").read_text(encoding="utf-8"))


def alarms() -> dict[str, dict[str, Any]]:
    """The properties of every alarm."""
    resources = template()["Resources"].items()
    return {name: r["Properties"] for name, r in resources if r["Type"] == "AWS::CloudWatch::Alarm"}


def watched(alarm: dict[str, Any]) -> list[str]:
    """The metrics that an alarm watches, one for each that is billed where results are not handed on."""
    if "MetricName" in alarm:
        return [alarm["MetricName"]]
    metrics = [part for part in alarm["Metrics"] if isinstance(part, dict) and "MetricStat" in part]
    return [part["MetricStat"]["Metric"]["MetricName"] for part in metrics]


def entries() -> dict[str, str]:
    """The runbook's alarms: an entry's title, and its text."""
    section = read(RUNBOOK).split("\n## Alarms\n")[1].split("\n## ")[0]
    _, *parts = re.split(r"^### (.+)$", section, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def read(path: Path) -> str:
    """A page's text."""
    return path.read_text(encoding="utf-8")


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks in that language, without the indentation of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", read(path), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def code_words(path: Path) -> set[str]:
    """What stands in backticks in the running text."""
    prose = re.sub(r"^ *```.*?^ *```$", "", read(path), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", prose))


def queries() -> list[str]:
    """Every Logs Insights query, those inside of commands included."""
    return blocks(RUNBOOK, "logs") + re.findall(r"logs '(filter.*?)'", read(RUNBOOK), re.DOTALL)


def slug(title: str) -> str:
    """A heading's anchor."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@cache
def vocabulary() -> str:
    """Everything in which a word of ours may be defined."""
    sources = sorted((PROJECT / "src" / "oncetask").rglob("*.py"))
    others = [
        "template.yml",
        "docs/results.md",
        "docs/routes.md",
        "docs/settings.md",
        "src/routes.toml",
        "local/ledger.py",
        "local/ledger_queries.py",
        "Makefile",
        "docs/keyless.md",
    ]
    return "\n".join(read(path) for path in [*sources, *(PROJECT / name for name in others)])


# -- alarms ---------------------------------------------------------------------------------------


def test_every_alarm_has_its_entry_and_every_entry_its_alarm() -> None:
    """Under the alarm's own name, in the template's order."""
    assert list(entries()) == list(alarms())


def test_every_entry_says_what_it_means_where_to_look_what_to_do_and_when_it_goes() -> None:
    """In that order, each once; and it names the metric."""
    for name, text in entries().items():
        places = [text.find(part) for part in PARTS]
        assert -1 not in places, name
        assert places == sorted(places), name
        assert all(f"`{metric}`" in text for metric in watched(alarms()[name])), name


def test_every_alarm_says_what_to_do_and_where_more_stands() -> None:
    """Its description ends with its own entry, and is not cut off."""
    for name, alarm in alarms().items():
        description = alarm["AlarmDescription"]
        advice, _, link = description.partition(" More: ")
        assert link == f"docs/runbook.md#{slug(name)}"
        assert advice.endswith(".")
        assert len(description) <= DESCRIPTION_CHARS


def test_what_an_operators_code_asks_for_is_said() -> None:
    """Every code of ours that may be the operator's is in the table of OperatorErrorAlarm."""
    operators = {Code.LEDGER_UNAVAILABLE, Code.SECRET_UNAVAILABLE, Code.CREDENTIALS_UNAVAILABLE}
    operators |= {Code.AMBIGUOUS, Code.OUTCOME_UNKNOWN, Code.SECOND_TASK, Code.RECORD_DAMAGED, Code.EXPIRED}
    operators |= {Code.HOST_FILTER_IGNORED}

    for code in operators:
        assert f"`{code}`" in entries()["OperatorErrorAlarm"]


# -- words ----------------------------------------------------------------------------------------


@each_page
def test_every_code_word_exists(path: Path) -> None:
    """Metrics, codes, statuses, settings, parameters, resources: each is the project's or AWS's."""
    words = {word for word in code_words(path) if re.fullmatch(r"[A-Za-z_]+\*?", word)} - AWS_WORDS

    assert words
    assert {word for word in words if word.rstrip("*") not in vocabulary()} == set()


@each_page
def test_every_command_exists(path: Path) -> None:
    """Targets of make, commands of `oncetask`, and what its ledger can do."""
    makefile = read(PROJECT / "Makefile")
    targets = set(re.findall(r"(?:`|^ *)make ([a-z]+)", read(path), re.MULTILINE))

    commands = set(re.findall(r"[.]/oncetask ([a-z]+)", read(path)))

    assert targets | commands
    assert {target for target in targets if f"\n{target}:" not in makefile} == set()
    assert commands <= set(oncetask.commands)
    assert set(re.findall(r"[.]/oncetask ledger ([a-z-]+)", read(path))) <= set(ACTIONS)


@each_page
def test_every_resource_that_a_command_asks_for_exists(path: Path) -> None:
    """`of NAME` is a logical name of the template."""
    names = set(re.findall(r"\$\(of ([A-Z]\w+)\)", read(path)))

    assert names
    assert names <= set(template()["Resources"])


@each_page
def test_every_link_leads_somewhere(path: Path) -> None:
    """Files, and headings in them."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", read(path)):
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), target
        headings = re.findall(r"^#+ (.+)$", read(page), re.MULTILINE) if anchor else []
        assert not anchor or anchor in map(slug, headings), target


def test_queries_ask_for_what_is_logged() -> None:
    """Fields of the result, kinds, statuses and codes, and the words that stand in `message`."""
    schema = json.loads(read(PROJECT / "events" / "result.schema.json"))
    source = read(Path(telemetry.__file__))

    assert len(queries()) >= len(alarms())
    for query in queries():
        for field in re.findall(r"result\.([\w.]+)", query):
            assert all(f'"{part}"' in json.dumps(schema) for part in field.split(".")), field
        for field, values in re.findall(r'([\w.]+) (?:=|in) (\[[^]]+\]|"[^"]+")', query):
            for value in re.findall(r'"([^"]+)"', values):
                assert _may_be(field, value, source), (field, value)


VALUES: dict[str, Container[str]] = {
    "status": set(Status),
    "kind": set(Kind),
    "code": set(Code),
    "trigger": set(Trigger),
    "state": {"SUCCESS", "FAIL", "TIMEOUT", "LOST"},
}
"""What a field of a result may hold."""


def _may_be(field: str, value: str, source: str) -> bool:
    name = field.rpartition(".")[2]
    if name == "message":
        return f'"{value}"' in source
    return value in VALUES.get(name, ()) or field == "result.event_id"


# -- deploying ------------------------------------------------------------------------------------


def test_every_parameter_is_explained() -> None:
    """In the table of what is asked for."""
    table = read(DEPLOY).split("| parameter |")[1].split("\n\n")[0]

    assert set(re.findall(r"`([A-Z]\w+)`", table)) == set(template()["Parameters"])


def test_the_key_is_stored_under_the_names_that_are_read() -> None:
    """As in the settings."""
    [document] = re.findall(r"printf '(\{.*\})'", read(DEPLOY))

    names = {str(Settings.model_fields[name].alias) for name in ("access_key_id", "access_key_secret")}
    assert set(json.loads(document)) == names


def test_no_page_has_a_key_written_to_a_file() -> None:
    """A file in the checkout is one `git add` away from everybody."""
    for path in (PROJECT / "docs").glob("*.md"):
        assert "key.json" not in read(path), path.name


def test_the_tick_that_tries_it_is_one() -> None:
    """Of the route that ships."""
    [payload] = re.findall(r"--payload '(\{.*?\})'", read(DEPLOY), re.DOTALL)
    routes = shipped.routes()

    tick = Tick.of(json.loads(payload))

    assert routes[str(tick.route)].trigger is Trigger.TIMER


def test_the_routes_shown_are_deployed_by_the_template_shown(tmp_path: Path) -> None:
    """The schedule's tick is the timer's, the URL the webhook's, and the secret's variable a parameter."""
    path = tmp_path / "routes.toml"
    path.write_text("\n".join(blocks(DEPLOY, "toml")), encoding="utf-8")
    schedule, output, parameter, variable = map(loaded, blocks(DEPLOY, "yaml"))

    routes = load_routes(path, TASK_TYPES)

    timer, webhook = routes.values()
    [properties] = [part["Properties"] for part in schedule.values()]
    tick = properties["Input"].replace("<aws.scheduler.scheduled-time>", "2026-11-24T05:00:00Z")
    arn = f"arn:aws:scheduler:eu-central-1:123456789012:schedule/oncetask/{properties['Name']}"
    assert (timer.trigger, webhook.trigger) == (Trigger.TIMER, Trigger.WEBHOOK)
    assert Tick.of(json.loads(tick.replace("<aws.scheduler.schedule-arn>", arn))).route == timer.name
    [url] = [part["Value"] for part in output.values()]
    event = {"requestContext": {"http": {"method": "POST"}}, "rawPath": url.removeprefix("https://")}
    assert Delivery.of(event).route == webhook.name
    [(name, declared)] = parameter.items()
    assert declared["NoEcho"] is True
    assert list(variable.values()) == [name]
    assert f'secrets = ["env:{next(iter(variable))}"]' in read(DEPLOY)


def test_the_schedule_shown_is_like_the_one_that_ships() -> None:
    """But for names and times: retries, dead letters and role."""
    [shown] = [part["Properties"] for part in loaded(blocks(DEPLOY, "yaml")[0]).values()]
    ships = template()["Resources"]["TimerFunction"]["Properties"]["Events"]["NightlyAssets"]["Properties"]
    own = {"Name", "Description", "ScheduleExpression", "ScheduleExpressionTimezone", "Input"}

    assert {key: value for key, value in shown.items() if key not in own} == {
        key: value for key, value in ships.items() if key not in own
    }


def test_metrics_and_alarms_are_counted_rightly() -> None:
    """As the bill has them."""
    always = [name for name, r in template()["Resources"].items() if "Condition" not in r]
    billed = [len(watched(alarm)) for name, alarm in alarms().items() if name in always]

    text = re.sub(r"\s+", " ", read(DEPLOY)).replace("\N{MULTIPLICATION SIGN}", "x")
    assert f"| CloudWatch, alarm metrics | {sum(billed)} x" in text
    assert (billed.count(1), billed.count(3), len(billed)) == (10, 2, 12)
    assert "Ten of them watch one metric, two watch three: 16 alarm metrics." in text
    assert f"16 counts, four gauges and one latency: {len(METRICS)}" in text
    assert f"| CloudWatch, metrics | 4 x $0.30 = $1.20 | {len(METRICS)} x" in text
