"""A task in the fewest lines: Alibaba Cloud's own SDK of Security Center."""

import os
from typing import Any

from alibabacloud_sas20181203.client import Client
from alibabacloud_sas20181203.models import GenerateOnceTaskRequest
from alibabacloud_tea_openapi.utils_models import Config

key_id, secret, url = (os.environ[name] for name in ("KEY_ID", "KEY_SECRET", "ENDPOINT"))
client = Client(Config(access_key_id=key_id, access_key_secret=secret, endpoint=url, protocol="HTTP"))


def handler(event: dict[str, str], _context: object) -> Any:  # noqa: ANN401 - the answer's JSON
    """The event is the request."""
    return client.generate_once_task(GenerateOnceTaskRequest().from_map(event)).body.to_map()
