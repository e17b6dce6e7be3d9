import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { pathsFrom } from "../../src/cli/paths.js";
import { use } from "../../src/cli/use.js";
import { parseIp } from "../../src/kit/ip.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { DEVICE_FILES } from "../../src/wire/agentconfig.js";
import type { AgentStatus } from "../../src/wire/agentsocket.js";
import { makeHome } from "./hostworld.js";

/** `use` against an agent's socket with answers made up here. */

const folder = mkdtempSync(join(tmpdir(), "exn-use-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const home: AgentStatus["peers"][number] = {
  ...{ name: "home", role: "exit-node", addresses: [parseIp("100.64.0.1")], online: true },
  ...{ path: "direct", endpoint: "203.0.113.77:51820", receivedBytes: 0, sentBytes: 0 },
};
const status: AgentStatus = {
  ...{ name: "laptop", role: "device", version: "0", addresses: [parseIp("100.64.0.2")] },
  ...{ dataPlane: "kernel", interface: "exn0", listenPort: 51820, warnings: [] },
  coordinator: { connected: true, url: "https://192.0.2.22" },
  peers: [home, { ...home, name: "cabin", online: false, path: "searching" }],
};
const exit = { name: "home", ipv4: true, ipv6: true, state: "active" };
const pong = { peer: "home", path: "direct", endpoint: "203.0.113.77:51820", roundTripMs: 3 };

/** The agent has an exit once it was told of one; its pings are answered with what is given. */
async function useWith(args: readonly string[], ping: unknown, used = false) {
  const asked: string[] = [];
  let chosen = used;
  const stop = await serveLines(join(folder, DEVICE_FILES.socket), 0o600, async (request) => {
    const word = String(Reflect.get(Object(request), "do"));
    asked.push(word);
    if (word === "ping") return ping;
    if (word === "use") chosen = true;
    return { ok: true, value: chosen ? { ...status, exit } : status };
  });
  const made = makeHome();
  let now = 0;
  const clock = {
    now: () => now,
    wall: () => now,
    sleep: async (duration: number) => {
      now += duration;
    },
  };
  const call = made.call(args);
  const paths = pathsFrom({ EXITNODE_RUN: folder }, folder);
  try {
    return { ...(await use({ ...call, parts: { ...call.parts, paths, clock } })), asked };
  } finally {
    made.remove();
    await stop();
  }
}

test("an exit is told to be in use once it has answered", async () => {
  const { text } = await useWith(["home"], { ok: true, value: pong });
  assert.equal(text, "everything now leaves through home (direct to 203.0.113.77:51820): IPv4 and IPv6");
});

test("an exit that died after its handshake is not told to be in use", async () => {
  const { roundTripMs: _, ...silence } = pong;
  await assert.rejects(useWith(["home"], { ok: true, value: silence }), { code: "exit-silent" });
});

test("of an exit that answers no probes the handshake is enough", async () => {
  const error = { code: "peer-without-probes", message: "home answers no probes" };
  assert.match((await useWith(["home"], { ok: false, error })).text, /^everything now leaves through home/);
});

test("`use` alone names the exits there are and the one in use, and changes nothing", async () => {
  const unused = await useWith([], undefined);
  assert.equal(
    unused.text,
    [
      "no exit node is in use: traffic leaves by this network",
      "EXIT NODE  STATE",
      "home       online",
      "cabin      offline",
      "next: exitnode use home, or exitnode use cabin",
    ].join("\n"),
  );
  const used = await useWith([], undefined, true);
  assert.match(used.text, /^home +online +in use$/m);
  assert.match(used.text, /^next: exitnode use cabin, or exitnode use none$/m);
  assert.deepEqual([unused.asked, used.asked], [["status"], ["status"]]);
});
