"""Creates a task with Alibaba Cloud's own Security Center SDK, reads its state back, and lists hosts.

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
    root = client.describe_once_task(models.DescribeOnceTaskRequest(root_task_id=created.task_id)).body
    return {
        "task_id": created.task_id,
        "can_create": created.can_create,
        "listed": [(task.task_id, task.task_status_text) for task in listed],
        "result": result.task_info.status,
        "last": last.task_id,
        "details": [json.loads(task.detail_data) for task in root.task_manage_response_list],
        "by_token": by_token(client),
        "by_number": by_number(client),
    }


def by_token(client: Client) -> list[dict[str, object]]:
    """Two hosts a page, of those that are offline, as the SDK's typed models show them."""
    shown, token = [], None
    while True:
        body = client.describe_cloud_center_instances(
            models.DescribeCloudCenterInstancesRequest(
                criteria=json.dumps([{"name": "clientStatus", "value": "offline"}]),
                logical_exp="AND",
                machine_types="ecs",
                page_size=2,
                use_next_token=True,
                next_token=token,
            )
        ).body
        shown += [row_of(instance) for instance in body.instances]
        token = body.page_info.next_token
        if not token:
            return shown


def by_number(client: Client) -> list[int]:
    """How many hosts there are, and how many stand on the last page of five."""
    body = client.describe_cloud_center_instances(
        models.DescribeCloudCenterInstancesRequest(machine_types="ecs", current_page=3, page_size=5)
    ).body
    return [body.page_info.total_count, body.page_info.count]


def row_of(instance: models.DescribeCloudCenterInstancesResponseBodyInstances) -> dict[str, object]:
    """What our own client reads of a row, too."""
    return {
        "uuid": instance.uuid,
        "IntranetIp": instance.intranet_ip,
        "ClientSubStatus": instance.client_sub_status,
        "Status": instance.status,
        "Importance": str(instance.importance),
        "GroupTrace": instance.group_trace,
        "Os": instance.os,
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201 - the test reads it
