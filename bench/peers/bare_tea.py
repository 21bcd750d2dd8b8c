"""A task in the fewest lines: the bare Tea client, as its own examples use it."""

import os
from typing import Any

from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.runtime import RuntimeOptions

key_id, secret, url = (os.environ[name] for name in ("KEY_ID", "KEY_SECRET", "ENDPOINT"))
client = Client(Config(access_key_id=key_id, access_key_secret=secret, endpoint=url, protocol="HTTP"))
params = Params(
    action="GenerateOnceTask",
    version="2018-12-03",
    protocol="HTTP",
    pathname="/",
    method="POST",
    auth_type="AK",
    style="RPC",
    req_body_type="formData",
    body_type="json",
)


def handler(event: dict[str, str], _context: object) -> Any:  # noqa: ANN401 - the answer's JSON
    """The event is the request."""
    return client.call_api(params, OpenApiRequest(query=event), RuntimeOptions())["body"]
