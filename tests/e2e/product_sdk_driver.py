"""Creates a task with Alibaba Cloud's own Security Center SDK and reads its state back.

Arguments: endpoint, access key id, secret. Prints one JSON object.
"""

import json
import sys

from alibabacloud_sas20181203 import models
from alibabacloud_sas20181203.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.utils_models import Config

TYPE = "CLIENT_PROBLEM_CHECK"


def main(endpoint: str, access_key_id: str, secret: str) -> dict[str, object]:
    """What the SDK made of the service's answers."""
    client = Client(
        Config(
            access_key_id=access_key_id,
            access_key_secret=secret,
            endpoint=endpoint,
            protocol="HTTP",
        )
    )
    param = json.dumps({"mode": 1, "problemType": "offline", "uuids": "inet-1,inet-2"})
    try:
        created = client.generate_once_task(
            models.GenerateOnceTaskRequest(task_type=TYPE, task_name=TYPE, param=param, source="sdk")
        ).body
    except AlibabaCloudException as refusal:
        return {"code": refusal.code, "status": refusal.status_code}
    listed = client.describe_once_task(
        models.DescribeOnceTaskRequest(task_type=TYPE, task_id=created.task_id)
    ).body.task_manage_response_list
    result = client.get_once_task_result_info(
        models.GetOnceTaskResultInfoRequest(task_type=TYPE, task_name=TYPE, task_id=created.task_id)
    ).body
    last = client.get_last_once_task_info(
        models.GetLastOnceTaskInfoRequest(task_type=TYPE, task_name=TYPE)
    ).body
    return {
        "task_id": created.task_id,
        "can_create": created.can_create,
        "listed": [(task.task_id, task.task_status_text) for task in listed],
        "result": result.task_info.status,
        "last": last.task_id,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201 - the test reads it
