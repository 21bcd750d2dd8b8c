// Creates a task with Alibaba Cloud's generic Node client and reads its state back.
// Arguments: node_modules folder, endpoint, access key id, secret. Prints one JSON object.
import { createRequire } from "node:module";

const [modules, endpoint, accessKeyId, accessKeySecret] = process.argv.slice(2);
const { default: Client, Config, OpenApiRequest, Params } = createRequire(`${modules}/`)("@alicloud/openapi-client");
const { RuntimeOptions } = createRequire(`${modules}/`)("@alicloud/tea-util");

const TYPE = "CLIENT_PROBLEM_CHECK";
const client = new Client(
  new Config({ accessKeyId, accessKeySecret, endpoint, protocol: "HTTP", regionId: "cn-shanghai" }),
);

async function call(action, query) {
  const params = new Params({
    action, version: "2018-12-03", protocol: "HTTP", method: "POST", authType: "AK",
    style: "RPC", pathname: "/", reqBodyType: "formData", bodyType: "json",
  });
  return (await client.callApi(params, new OpenApiRequest({ query }), new RuntimeOptions({}))).body;
}

const created = await call("GenerateOnceTask", {
  TaskType: TYPE, TaskName: TYPE, Param: JSON.stringify({ mode: 1, problemType: "offline", uuids: "inet-1" }),
});
const listed = await call("DescribeOnceTask", { TaskType: TYPE, TaskId: created.TaskId });
console.log(JSON.stringify({
  task_id: created.TaskId,
  listed: listed.TaskManageResponseList.map((task) => [task.TaskId, task.TaskStatusText]),
}));
