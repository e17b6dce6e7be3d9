// Our node as a process: the engine in its worker thread, as the agent runs it, without the rest of the agent.
// usage: enginenode.mjs BUILD WORKER < interface (JSON), until standard input ends
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [build, worker] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(build, path)).href);
const [{ Engine }, { settleHeap }] = await Promise.all([load("src/engine/engine.js"), load("src/sys/heap.js")]);

const lines = createInterface({ input: process.stdin });
const engine = new Engine({
  workerUrl: pathToFileURL(worker),
  onFailed: (failure) => {
    process.stderr.write(`${failure.message}\n`);
    process.exit(1);
  },
});
lines.once("line", async (line) => {
  await engine.set(JSON.parse(line));
  settleHeap();
  process.stdout.write("ready\n");
});
lines.once("close", async () => {
  for (const warning of (await engine.state()).warnings) process.stderr.write(`warning: ${warning}\n`);
  await engine.close();
});
