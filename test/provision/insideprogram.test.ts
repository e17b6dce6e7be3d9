import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Writable } from "node:stream";
import { after, before, test } from "node:test";
import { observationScript, sectionsOf } from "../../src/provision/inside.js";
import { ANSWER_LENGTH_MAX, CALL_PROGRAM } from "../../src/provision/insideprogram.js";
import { localExec } from "../../src/sys/exec.js";

/** The programs that Node runs in a container, against sockets where the daemons have theirs: /run is a folder here. */
const folder = mkdtempSync(join(tmpdir(), "exn-run-"));
const asked: string[] = [];
const servers: Server[] = [];
/** The daemons answer without end. */
let endless = false;
let poured = 0;
const inRoom = (argv: readonly string[], input = "") =>
  localExec.run(["unshare", "-m", "sh", "-c", 'mount --bind "$0" /run && exec "$@"', folder, ...argv], { input });

before(async () => {
  for (const name of ["exitnode", "exitnode-coordinator"]) mkdirSync(join(folder, name));
  const agent = createServer((socket) => {
    socket.on("error", () => undefined);
    socket.on("data", (chunk) => {
      asked.push(String(chunk));
      if (endless) return pour(socket);
      socket.write('{"ok":true,"value":{"ver');
      setImmediate(() => socket.write('sion":"1.2.3"}}\n'));
    });
  });
  const coordinator = createHttp((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      asked.push(`${request.method} ${request.url} ${body}`.trim());
      if (endless) return pour(response);
      response.statusCode = request.url === "/taken" ? 409 : 200;
      response.end(JSON.stringify(request.url === "/taken" ? { code: "name-taken" } : { devices: 2 }));
    });
  });
  const whoami = createHttp((_, response) => response.end("127.0.0.1\n"));
  servers.push(agent, coordinator, whoami);
  agent.listen(join(folder, "exitnode/agent.sock"));
  coordinator.listen(join(folder, "exitnode-coordinator/admin.sock"));
  await new Promise<void>((resolve) => whoami.listen(0, "127.0.0.1", resolve));
});
after(() => {
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a look asks agent, coordinator and whoami at once, and an answer in pieces is one", async () => {
  const address = servers[2]?.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const whoami = ["http://127.0.0.1:1/", `http://127.0.0.1:${port}/`];
  const { stdout } = await inRoom(["sh", "-s"], observationScript({ paths: [], sysctlKeys: [], whoami }));
  const sections = sectionsOf(stdout);
  const json = (name: string): unknown => JSON.parse(sections.get(name)?.[0] ?? "null");
  assert.deepEqual(json("agent"), { version: "1.2.3" });
  assert.deepEqual(json("coordinator"), { devices: 2 });
  assert.deepEqual(json("outside"), { ipv4: "127.0.0.1" });
  assert.deepEqual(asked.splice(0).sort(), ["GET /api/v1/status", '{"do":"status"}\n']);
});

test("daemons that answer without end are cut off at the bound, not at the deadline, and what else was seen stays", async () => {
  [endless, poured] = [true, 0];
  const usual = observationScript({ paths: [], sysctlKeys: [], whoami: [] });
  // Who waited for these deadlines would wait for ever.
  const script = usual
    .replace(/setTimeout\(resolve, \d+\)/, "setTimeout(resolve, 1e9)")
    .replace(/timeout 8 node/, "node");
  assert.equal(script.length, usual.length - "timeout 8 ".length - "6000".length + "1e9".length);
  const { stdout } = await inRoom(["sh", "-s"], script);
  // What lies in the buffers of two sockets comes on top.
  assert.ok(poured < 2 * ANSWER_LENGTH_MAX + 4 * 1024 * 1024, `${poured} bytes were taken`);
  const sections = sectionsOf(stdout);
  assert.deepEqual([sections.get("agent"), sections.get("coordinator"), sections.get("outside")], [[], [], ["{}"]]);
  const call = await inRoom(["node", "-e", CALL_PROGRAM, "GET", "/keys"]);
  assert.deepEqual([call.exitCode, call.stdout], [2, ""]);
  assert.match(call.stderr, /^the answer was cut off, or is longer than 8388608 characters\n$/);
  endless = false;
  const large = await inRoom(["node", "-e", CALL_PROGRAM, "POST", "/keys"], "x".repeat(ANSWER_LENGTH_MAX + 1));
  assert.deepEqual([large.exitCode, large.stderr], [2, "the request is longer than 8388608 characters\n"]);
  asked.length = 0;
});

test("a call hands on the body and the answer; a refusal ends with 1, and nobody there with 2", async () => {
  const call = (method: string, path: string, input?: string) =>
    inRoom(["node", "-e", CALL_PROGRAM, method, path], input);
  const made = await call("POST", "/keys", '{"role":"device"}');
  assert.deepEqual([made.exitCode, JSON.parse(made.stdout)], [0, { devices: 2 }]);
  assert.deepEqual(asked.splice(0), ['POST /keys {"role":"device"}']);
  const refused = await call("DELETE", "/taken");
  assert.deepEqual([refused.exitCode, JSON.parse(refused.stdout)], [1, { code: "name-taken" }]);
  servers[1]?.close();
  const gone = await call("GET", "/keys");
  assert.deepEqual([gone.exitCode, gone.stdout], [2, ""]);
  assert.match(gone.stderr, /^nothing listens at .*admin\.sock\n$/);
});

/** As fast as it is read, until the reader has gone. */
function pour(stream: Writable): void {
  stream.on("error", () => undefined);
  const more = (): void => {
    while (!stream.destroyed) {
      poured += 65_536;
      if (!stream.write("x".repeat(65_536))) break;
    }
  };
  stream.on("drain", more);
  more();
}
