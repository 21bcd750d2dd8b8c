// Signs deliveries as GitHub does, with GitHub's own library.
// Arguments: node_modules folder, secret, bodies… Prints a JSON list of signatures.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, secret, ...bodies] = process.argv.slice(2);
const folder = join(modules, "@octokit/webhooks-methods");
const { exports } = JSON.parse(readFileSync(join(folder, "package.json")));
const { sign } = await import(pathToFileURL(join(folder, exports["."].node.import)));

console.log(JSON.stringify(await Promise.all(bodies.map((body) => sign(secret, body)))));
