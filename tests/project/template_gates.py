"""The gates of `make lint-template`, run in the environment of `local/tools/sam.txt`.

    python -m tests.project.template_gates TEMPLATE     what is wrong with it, one finding a line
    python -m tests.project.template_gates              a template a line (JSON text) in, `Judgement` out

cfn-lint does not expand SAM templates, and so sees little of one; the transform is AWS's own, offline and
without credentials, and what it gives is linted again.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

os.environ["SAM_CLI_TELEMETRY"] = "0"

from cfnlint.config import ConfigMixIn
from cfnlint.decode.decode import decode_str
from cfnlint.runner import Runner
from samcli.commands.validate.lib.exceptions import InvalidSamDocumentException
from samcli.lib.translate.sam_template_validator import SamTemplateValidator
from samcli.yamlhelper import yaml_parse

REGION = "eu-central-1"


@dataclass(frozen=True)
class Judgement:
    """`found`: what the gates say. `source` and `expansion`: the template, tags as AWS's long functions."""

    found: list[str]
    source: dict[str, Any] = field(default_factory=dict)
    expansion: dict[str, Any] = field(default_factory=dict)


class NoPolicies:
    """AWS's managed policies by name, of which the template uses none."""

    def load(self) -> dict[str, str]:
        return {}


def judged(template: str, *, lints_source: bool, lints_expansion: bool) -> Judgement:
    """What the gates say; the transform's verdict ends the matter."""
    try:
        source = yaml_parse(template)
        expanded = SamTemplateValidator(yaml_parse(template), NoPolicies(), region=REGION)
        expansion = expanded.get_translated_template_if_valid()
    except (InvalidSamDocumentException, ValueError) as error:
        return Judgement([f"transform: {error}"])
    found = [f"cfn-lint, as it is: {match}" for match in _lint(template)] if lints_source else []
    if lints_expansion:
        found += [f"cfn-lint, expanded: {match}" for match in _lint(expansion)]
    return Judgement(found, source, yaml_parse(expansion))


def _lint(template: str) -> Iterator[str]:
    decoded, errors = decode_str(template)
    for match in errors or _runner().validate_template(decoded):
        yield f"{match.rule.id} {match.message} (line {match.linenumber})"


@cache
def _runner() -> Runner:
    """One for all templates: reading the rules takes as long as using them."""
    return Runner(ConfigMixIn(regions=[REGION]))


def main(path: str) -> None:
    """Print what the gates find; exit code 1 if that is anything."""
    judgement = judged(Path(path).read_text(encoding="utf-8"), lints_source=True, lints_expansion=True)
    for finding in judgement.found:
        print(f"{path}: {finding}")  # noqa: T201 - a command
    sys.exit(bool(judgement.found))


def serve() -> None:
    """Judge templates until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print
    for line in sys.stdin:
        judgement = judged(**json.loads(line))
        answers.write(json.dumps(asdict(judgement), default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1]) if len(sys.argv) > 1 else serve()
