// Signs deliveries as their senders do, with the senders' own libraries, or says whether a library that only
// verifies lets them in.
// Argument: the node_modules folder. Standard input: a JSON list of {library, secret, body, id, sent_s}, or of
// {library, secret, body, headers}. Prints a JSON list of signatures, or of `true` and `false`.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const modules = process.argv[2];
const require = createRequire(join(modules, "any.js"));

async function octokit() {
  const folder = join(modules, "@octokit/webhooks-methods");
  const { exports } = JSON.parse(readFileSync(join(folder, "package.json")));
  return import(pathToFileURL(join(folder, exports["."].node.import)));
}

const A_LONG_TIME_S = 1e9; // the documents were signed long ago

const SIGNERS = {
  "@hookflo/tern": async ({ secret, body, headers }) => {
    const { WebhookVerificationService } = require("@hookflo/tern");
    const request = new Request("https://example.com/", { method: "POST", body, headers });
    const verified = await WebhookVerificationService.verifyWithPlatformConfig(
      request, "sentry", secret, A_LONG_TIME_S);
    return verified.isValid;
  },
  "@octokit/webhooks-methods": async ({ secret, body }) => (await octokit()).sign(secret, body),
  stripe: ({ secret, body, sent_s }) => {
    const { webhooks } = new (require("stripe"))("sk_test_unused");
    return webhooks.generateTestHeaderString({ payload: body, secret, timestamp: sent_s });
  },
  svix: ({ secret, body, id, sent_s }) => {
    const { Webhook } = require("svix");
    return new Webhook(secret).sign(id, new Date(sent_s * 1000), body);
  },
};

const wanted = JSON.parse(readFileSync(0));
console.log(JSON.stringify(await Promise.all(wanted.map((each) => SIGNERS[each.library](each)))));
