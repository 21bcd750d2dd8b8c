"""Secrets of AWS Secrets Manager and of Systems Manager's Parameter Store, read and made sense of.

Each call is bounded by its own time-outs: 2 s to connect, 3 s to read. Connections are not kept: the
next reading is minutes away.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

from oncetask.aws.client import AwsError, AwsFailure, AwsService
from oncetask.credentials import Keys
from oncetask.errors import Code, CredentialsUnavailable, SecretUnavailable

_GET_SECRET = "secretsmanager:GetSecretValue"  # noqa: S105 - an action, not a secret
_GET_PARAMETER = "ssm:GetParameter"
_BEFORE = "AWSPREVIOUS"
_KEY_ID, _KEY_SECRET, _TOKEN = (
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
)


def access_key(service: AwsService, secret_id: str) -> Keys:
    """The access key in a secret's JSON. Raises CredentialsUnavailable, with the service's own code."""
    try:
        document = _object(_secret(service, secret_id))
    except AwsFailure as error:
        text = _told(f"the secret {secret_id}", error, _GET_SECRET)
        raise CredentialsUnavailable(text, code=_code(error)) from None
    except (TypeError, ValueError):
        raise CredentialsUnavailable(_unreadable(f"the secret {secret_id}")) from None
    finally:
        service.close()
    found = [document.get(name) for name in (_KEY_ID, _KEY_SECRET, _TOKEN)]
    key_id, key_secret, token = (value if isinstance(value, str) else "" for value in found)
    if not (key_id and key_secret):
        raise CredentialsUnavailable(
            f"the secret {secret_id} must be a JSON object with the texts {_KEY_ID} and {_KEY_SECRET}"
        )
    return Keys(key_id, key_secret, token or None)


def webhook_secret(service: AwsService, reference: str) -> tuple[bytes, ...]:
    """The values behind `secretsmanager:ID` or `ID#JSON_KEY`: the current one, and the previous one if any.

    Raises SecretUnavailable.
    """
    secret_id, _, key = reference.partition("#")

    def read() -> list[bytes]:
        current = _secret(service, secret_id)
        return [current, *_unless("ResourceNotFoundException", lambda: _secret(service, secret_id, _BEFORE))]

    values = _read(f"the secret secretsmanager:{reference}", service, read, _GET_SECRET)
    if not key:
        return values
    texts = [_object(value).get(key) for value in values]
    if not isinstance(texts[0], str):
        raise SecretUnavailable(f"the secret {secret_id} is no JSON object with a text under {key}")
    return tuple(text.encode() for text in texts if isinstance(text, str))


def webhook_parameter(service: AwsService, name: str) -> tuple[bytes, ...]:
    """The values behind `ssm:NAME`: the current version, and the one before; of `NAME:VERSION` that alone.

    Raises SecretUnavailable.
    """

    def read() -> list[bytes]:
        current = _parameter(service, name)
        value, version = str(current["Value"]).encode(), int(current["Version"])
        is_pinned = ":" in name.rpartition(":parameter/")[2]
        if is_pinned or version == 1:
            return [value]
        return [value, *_unless("ParameterVersionNotFound", lambda: _before(service, name, version))]

    return _read(f"the secret ssm:{name}", service, read, _GET_PARAMETER)


def _before(service: AwsService, name: str, version: int) -> bytes:
    return str(_parameter(service, f"{name}:{version - 1}")["Value"]).encode()


def _parameter(service: AwsService, name: str) -> dict[str, Any]:
    answer = service.call("AmazonSSM.GetParameter", {"Name": name, "WithDecryption": True})
    parameter: dict[str, Any] = answer["Parameter"]
    return parameter


def _secret(service: AwsService, secret_id: str, stage: str = "AWSCURRENT") -> bytes:
    answer = service.call("secretsmanager.GetSecretValue", {"SecretId": secret_id, "VersionStage": stage})
    if "SecretString" in answer:
        return str(answer["SecretString"]).encode()
    return base64.b64decode(answer.get("SecretBinary", ""))


def _read(what: str, service: AwsService, read: Callable[[], list[bytes]], action: str) -> tuple[bytes, ...]:
    try:
        return tuple(read())
    except AwsFailure as error:
        raise SecretUnavailable(_told(what, error, action)) from None
    except (KeyError, TypeError, ValueError):
        raise SecretUnavailable(_unreadable(what)) from None
    finally:
        service.close()


def _unless(code: str, read: Callable[[], bytes]) -> list[bytes]:
    """What was read; nothing where the service answers with that code."""
    try:
        return [read()]
    except AwsError as error:
        if error.code != code:
            raise
        return []


def _object(value: bytes) -> dict[str, Any]:
    """The JSON object; an empty one for anything else."""
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _told(what: str, error: AwsFailure, action: str) -> str:
    text = f"{what} cannot be read: {error}"
    denied = (_code(error) or "").startswith("AccessDenied")
    return f"{text}; allow the function's role {action} on it" if denied else text


def _unreadable(what: str) -> str:
    return f"{what} came in a form that cannot be read"


def _code(error: AwsFailure) -> str | None:
    """The service's own code, if it gave one."""
    return error.code if isinstance(error, AwsError) and error.code != Code.ANSWER_UNREADABLE else None
