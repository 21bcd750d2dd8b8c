"""`template.yml` for a routes file of one's own: its schedules, its URLs, its secrets.

    ROUTES=FILE make build      a template beside which `sam build` finds everything as before

What stands in `template.yml` for the example routes goes, and stands there for the routes of the file: a
schedule for each timer that has one (named as the route, in the stack's group), an output for each webhook's
URL, a NoEcho parameter for each `env:` secret, and the right to read each other secret.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from local.errors import CommandError
from local.tools import PROJECT
from oncetask.errors import OnceTaskError
from oncetask.models import TASK_TYPES, Trigger
from oncetask.routing.routes import Route, Routes, load_routes
from oncetask.settings import Settings

VARIABLE = "ONCETASK_ROUTES_FILE"
"""What the Makefile hands the file's name over in: no shell and no make sees it."""
SWEEP = "sweep"
_OURS = ("ONCETASK_", "AWS_", "POWERTOOLS_", "LAMBDA_", "ALIBABA_CLOUD_")
_ARN = "arn:${AWS::Partition}:%s:${AWS::Region}:${AWS::AccountId}:%s"

type Template = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML whose short forms, such as `!Ref`, become AWS's long ones."""


def _long_form(loader: _Loader, tag: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode):
        value: object = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101 - there are three kinds of nodes
        value = loader.construct_mapping(node, deep=True)
    if tag == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _long_form)


def loaded(text: str) -> Template:
    """A template as JSON data."""
    template: Template = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    return template


def main() -> None:
    """Write the template for the routes that `VARIABLE` names; its path is argument 1."""
    target = Path(sys.argv[1])
    try:
        settings = Settings.from_environment({})
        routes = load_routes(Path(os.environ[VARIABLE]), (*TASK_TYPES, *settings.extra_task_types))
        template = template_for(routes, loaded((PROJECT / "template.yml").read_text(encoding="utf-8")))
    except OnceTaskError as error:
        sys.exit(f"oncetask: {error}".replace("ONCETASK_ROUTES must", "ROUTES must"))
    template["Globals"]["Function"]["CodeUri"] = os.path.relpath(PROJECT, target.parent)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(template, indent=1), encoding="utf-8")


def template_for(routes: Routes, template: Template) -> Template:
    """The template, changed to these routes. Raises CommandError: one cannot be deployed so."""
    _with_schedules(routes, template)
    _with_urls(routes, template)
    _with_env_secrets(routes, template)
    _with_rights(routes, template)
    return template


# -- schedules ------------------------------------------------------------------------------------


def _with_schedules(routes: Routes, template: Template) -> None:
    events = template["Resources"]["TimerFunction"]["Properties"]["Events"]
    example = next(event for event in events.values() if event["Type"] == "ScheduleV2")
    events.clear()
    for route in routes.values():
        if route.trigger is Trigger.TIMER and route.schedule:
            events[_logical(route.name, events)] = _schedule(route, example)
    if not events:
        del template["Resources"]["TimerFunction"]["Properties"]["Events"]
    if not _is_used("ScheduleTimeZone", template):
        del template["Parameters"]["ScheduleTimeZone"]


def _schedule(route: Route, example: Template) -> Template:
    if route.name == SWEEP:
        raise CommandError("a timer cannot be called sweep: the sweep's own schedule has that name")
    tick = {
        "route": route.name,
        "schedule": "<aws.scheduler.schedule-arn>",
        "scheduled_time": "<aws.scheduler.scheduled-time>",
    }
    own = {
        "Name": route.name,
        "Description": f"The route {route.name}.",
        "ScheduleExpression": route.schedule,
        "ScheduleExpressionTimezone": route.timezone or {"Ref": "ScheduleTimeZone"},
        "Input": json.dumps(tick),
    }
    return {**example, "Properties": {**example["Properties"], **own}}


# -- URLs -----------------------------------------------------------------------------------------


def _with_urls(routes: Routes, template: Template) -> None:
    outputs = template["Outputs"]
    for name in [name for name, output in outputs.items() if "/webhooks/" in json.dumps(output)]:
        del outputs[name]
    for route in routes.values():
        if route.trigger is Trigger.WEBHOOK:
            url = f"https://${{Api}}.execute-api.${{AWS::Region}}.${{AWS::URLSuffix}}/webhooks/{route.name}"
            outputs[_logical(route.name, outputs, "Url")] = {
                "Description": f"Where the sender of route {route.name} delivers to.",
                "Value": {"Fn::Sub": url},
            }


# -- secrets --------------------------------------------------------------------------------------


def _with_env_secrets(routes: Routes, template: Template) -> None:
    parameters = template["Parameters"]
    properties = template["Resources"]["WebhookFunction"]["Properties"]
    variables: dict[str, Any] = properties["Environment"]["Variables"]
    for value in variables.values():
        parameters.pop(value["Ref"], None)
    variables.clear()
    for name, used_by in _references(routes, "env").items():
        if name.startswith(_OURS):
            raise CommandError(
                f"routes.{used_by}: the secret env:{name} has the name of a setting; choose another"
            )
        parameter = _logical(name.replace("_", "-"), parameters)
        parameters[parameter] = {
            "Type": "String",
            "NoEcho": True,
            "Description": f"The secret env:{name} of route {used_by}. Empty: its senders are told 503.",
            "Default": "",
        }
        variables[name] = {"Ref": parameter}
    if not variables:
        del properties["Environment"]


def _with_rights(routes: Routes, template: Template) -> None:
    """The webhook's role may read what the routes name, and nothing else."""
    for route in routes.values():
        for reference in route.verify.secrets if route.verify else ():
            if reference.startswith("file:"):
                raise CommandError(
                    f"routes.{route.name}: the secret {reference} is a file, and no file of yours is deployed"
                )
    statements = _statements(template["Resources"]["WebhookRole"])
    secrets = [_secret_arn(name.partition("#")[0]) for name in _references(routes, "secretsmanager")]
    parameters = [_parameter_arn(name) for name in _references(routes, "ssm")]
    for action, arns in (("secretsmanager:GetSecretValue", secrets), ("ssm:GetParameter", parameters)):
        if arns:
            statements.append({"Effect": "Allow", "Action": [action], "Resource": _unique(arns)})


def _statements(role: Template) -> list[Any]:
    for policy in role["Properties"]["Policies"]:
        statements: list[Any] = policy["PolicyDocument"]["Statement"]
        if "secretsmanager:GetSecretValue" in json.dumps(statements):
            return statements
    raise CommandError(
        "template.yml: the webhook's role reads no secrets any more; local/template.py must follow"
    )


def _secret_arn(name: str) -> object:
    if name.startswith("arn:"):
        return _literal(name)
    return {"Fn::Sub": _ARN % ("secretsmanager", f"secret:{_literal(name)}-??????")}


def _parameter_arn(name: str) -> object:
    if name.startswith("arn:"):
        return _literal(name)
    return {"Fn::Sub": _ARN % ("ssm", f"parameter/{_literal(name).lstrip('/')}")}


def _literal(name: str) -> str:
    """The name, of which nothing may mean more in a policy or in a substitution. Raises CommandError."""
    if re.fullmatch(r"[A-Za-z0-9/_+=.@:-]+", name) is None:
        raise CommandError(
            f"the secret {name} cannot be deployed: AWS allows letters, digits and / _ + = . @ : -"
        )
    return name


def _unique(arns: list[object]) -> list[object]:
    return [arn for number, arn in enumerate(arns) if arn not in arns[:number]]


def _references(routes: Routes, kind: str) -> dict[str, str]:
    """What stands behind `kind:` in any route's secrets, each with the first route that names it."""
    return dict(reversed(list(_named(routes, kind))))


def _named(routes: Routes, kind: str) -> Iterator[tuple[str, str]]:
    for route in routes.values():
        for reference in route.verify.secrets if route.verify else ():
            if reference.startswith(f"{kind}:"):
                yield reference.removeprefix(f"{kind}:"), route.name


# -- names ----------------------------------------------------------------------------------------


def _logical(name: str, taken: Template, end: str = "") -> str:
    """A logical name, letters and digits alone, that is not taken."""
    base = "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", name) if part) or "Route"
    if base[0].isdigit():
        base = f"R{base}"
    number, found = 1, f"{base}{end}"
    while found in taken:
        number += 1
        found = f"{base}{number}{end}"
    return found


def _is_used(parameter: str, template: Template) -> bool:
    text = json.dumps({key: value for key, value in template.items() if key != "Parameters"})
    return f'{{"Ref": "{parameter}"}}' in text or f"${{{parameter}}}" in text


if __name__ == "__main__":
    main()
