"""template.yml as tests see it: judged by the gates, expanded, and deployed with parameters of theirs."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from local.tools import PROJECT, python_tool

TEMPLATE = PROJECT / "template.yml"
NO_VALUE = object()
STACK_ID = "arn:aws:cloudformation:eu-central-1:123456789012:stack/oncetask/0f1c2d3e-id"
"""What a template may take apart: AWS's own form of it."""

SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:security-center-AbCdEf"
KEYLESS = {
    "CredentialsMode": "keyless",
    "AlibabaRoleArn": "acs:ram::1234567890123456:role/oncetask",
    "AlibabaOidcProviderArn": "acs:ram::1234567890123456:oidc-provider/aws",
    "OidcAudience": "oncetask",
}
SECRET = {"CredentialsMode": "secretsmanager", "CredentialsSecretArn": SECRET_ARN}


@dataclass(frozen=True)
class Stack:
    """A template and its expansion, tags as AWS's long functions."""

    source: dict[str, Any]
    expansion: dict[str, Any]

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """The parameters' declarations."""
        return dict(self.source["Parameters"])

    def deployed(self, **parameters: object) -> "Deployed":
        """What AWS makes of it, with these parameters (by default, those of `SECRET`) and the defaults."""
        defaults = {name: given["Default"] for name, given in self.parameters.items() if "Default" in given}
        given = {"SecurityCenterRegion": "ap-southeast-1", **(parameters or SECRET)}
        return Deployed(self, {**defaults, **given})


@dataclass(frozen=True)
class Deployed:
    """A stack's resources with every function but a resource's own names worked out.

    What AWS would name reads as in the template: `Ledger` for `!Ref Ledger`, `Ledger.Arn` for `!GetAtt`,
    also within `!Sub`; `AWS::Region` for that.
    """

    stack: Stack
    parameters: Mapping[str, Any]

    @cached_property
    def resources(self) -> dict[str, dict[str, Any]]:
        """The resources that come to exist."""
        return {
            name: self.value(resource)
            for name, resource in self.stack.expansion["Resources"].items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs' values."""
        return {
            name: self.value(output["Value"])
            for name, output in self.stack.expansion["Outputs"].items()
            if "Condition" not in output or self._holds(output["Condition"])
        }

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of one type, by name."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }

    def the(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of that type."""
        (properties,) = self.of_type(kind).values()
        return properties

    def statements(self, role: str) -> list[dict[str, Any]]:
        """What a role may do, its managed policies included."""
        properties = self.of_type("AWS::IAM::Role")[role]
        managed = self.of_type("AWS::IAM::ManagedPolicy")
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
        documents += [managed[name]["PolicyDocument"] for name in properties.get("ManagedPolicyArns", ())]
        return [statement for document in documents for statement in document["Statement"]]

    def may(self, role: str) -> set[tuple[str, str]]:
        """The same as pairs of action and resource."""
        return {
            (action, resource)
            for statement in self.statements(role)
            for action in _listed(statement["Action"])
            for resource in _listed(statement["Resource"])
        }

    def value(self, node: Any) -> Any:  # noqa: ANN401 - any part of a template
        """The node with its functions worked out."""
        if isinstance(node, list):
            return [value for value in map(self.value, node) if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1 and (name := next(iter(node))) in _FUNCTIONS:
            return _FUNCTIONS[name](self, node[name])
        values = {key: self.value(value) for key, value in node.items()}
        return {key: value for key, value in values.items() if value is not NO_VALUE}

    def _holds(self, condition: str) -> bool:
        return bool(self.value(self.stack.expansion["Conditions"][condition]))

    def _ref(self, name: str) -> Any:  # noqa: ANN401
        if name == "AWS::NoValue":
            return NO_VALUE
        if name == "AWS::StackId":
            return STACK_ID
        value = self.parameters.get(name, name)
        is_list = self.stack.parameters.get(name, {}).get("Type") == "CommaDelimitedList"
        return str(value).split(",") if is_list else value

    def _if(self, arguments: list[Any]) -> Any:  # noqa: ANN401
        condition, yes, no = arguments
        return self.value(yes if self._holds(condition) else no)

    def _sub(self, arguments: Any) -> str:  # noqa: ANN401
        text, names = (arguments, {}) if isinstance(arguments, str) else arguments
        own = self.value(names)
        return re.sub(r"\$\{([^!}]+)\}", lambda match: str(own.get(match[1], self._ref(match[1]))), text)

    def _join(self, arguments: list[Any]) -> str:
        separator, parts = arguments
        return str(separator).join(map(str, self.value(parts)))

    def _equals(self, arguments: list[Any]) -> bool:
        left, right = self.value(arguments)
        return str(left) == str(right)


_FUNCTIONS: Mapping[str, Callable[[Deployed, Any], Any]] = {
    "Ref": Deployed._ref,
    "Fn::GetAtt": lambda _, names: names if isinstance(names, str) else ".".join(names),
    "Fn::Sub": Deployed._sub,
    "Fn::Join": Deployed._join,
    "Fn::If": Deployed._if,
    "Fn::Equals": Deployed._equals,
    "Fn::Not": lambda deployed, conditions: not deployed.value(conditions)[0],
    "Fn::Select": lambda deployed, given: deployed.value(given[1])[int(given[0])],
    "Fn::Split": lambda deployed, given: str(deployed.value(given[1])).split(given[0]),
    "Fn::And": lambda deployed, conditions: all(deployed.value(conditions)),
    "Condition": lambda deployed, given: (
        deployed._holds(given) if given in deployed.stack.expansion["Conditions"] else {"Condition": given}
    ),
}


@dataclass(frozen=True)
class Gates:
    """The gates of `make lint-template`, in a process of their own."""

    requests: IO[str]
    answers: IO[str]

    def judge(
        self, template: str, *, lints_source: bool = False, lints_expansion: bool = False
    ) -> tuple[list[str], Stack]:
        """What they find, and the stack; an empty one where the template cannot be expanded."""
        options = {"lints_source": lints_source, "lints_expansion": lints_expansion}
        self.requests.write(json.dumps({"template": template, **options}) + "\n")
        self.requests.flush()
        answer = json.loads(self.answers.readline())
        return answer["found"], Stack(answer["source"], answer["expansion"])


@contextlib.contextmanager
def gates() -> Iterator[Gates]:
    """The gates until the block ends. Raises NotInstallable."""
    command = [python_tool("sam") / "python", "-m", "tests.project.template_gates"]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Gates(process.stdin, process.stdout)
        process.stdin.close()


def template_text() -> str:
    """template.yml."""
    return Path(TEMPLATE).read_text(encoding="utf-8")


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
