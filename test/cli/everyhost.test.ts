import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Outcome } from "../../src/cli/command.js";
import { readConfig, readCredentials, writeConfig, writeCredentials } from "../../src/cli/config.js";
import { createExitNode } from "../../src/cli/createaction.js";
import { askHosts } from "../../src/cli/everyhost.js";
import { exitNodeStatus } from "../../src/cli/exitnodestatus.js";
import { listExitNodes } from "../../src/cli/listaction.js";
import { planExitNodes } from "../../src/cli/planaction.js";
import { localFiles } from "../../src/sys/files.js";
import { SeveralHosts } from "./severalhosts.js";

/** Commands that ask several Proxmox hosts: each host is the lab's API in this process. */
let world: SeveralHosts;
const open = async (...args: Parameters<SeveralHosts["open"]>): Promise<void> => {
  world = new SeveralHosts();
  await world.open(...args);
};
afterEach(() => world.close());

/** A host of the config behind which nobody is. */
async function addLost(): Promise<void> {
  const config = await readConfig(localFiles, world.config);
  const credentials = await readCredentials(localFiles, world.config);
  const { pve1 } = config.hosts;
  assert.ok(pve1);
  const gone = { ...pve1, url: "https://127.0.0.1:1" };
  await writeConfig(localFiles, world.config, { ...config, hosts: { ...config.hosts, gone } });
  const hosts = { ...credentials.hosts, gone: { secret: "x" } };
  await writeCredentials(localFiles, world.config, { ...credentials, hosts });
}

const lines = ({ text }: Outcome): string[] => text.split("\n").map((line) => line.replace(/ {2,}/g, " | "));

test("list shows every host's exit nodes; a host that is not there is a row with its reason, and the exit code is 1", async () => {
  await open(["pve1", "pve2"]);
  await world.exitNode(0, 101, "home-pve1");
  await world.exitNode(1, 101, "home-pve2");
  assert.equal((await listExitNodes(world.call([]))).exitCode, undefined);
  await addLost();
  const listed = await listExitNodes(world.call([]));
  assert.equal(listed.exitCode, 1);
  assert.match(listed.text, /home-pve1 .*\n.*home-pve2 /);
  assert.match(lines(listed).at(-1) ?? "", /^- \| gone \| - \| - \| not asked \| - \| .*127\.0\.0\.1/);
  const one = await listExitNodes(world.call([], { host: ["pve2"] }));
  assert.deepEqual([one.exitCode, /home-pve1/.test(one.text)], [undefined, false]);
  const status = await exitNodeStatus(world.call([]), undefined);
  assert.equal(status.exitCode, 1);
  assert.match(status.text, /home-pve1 +not in the network +101 on pve1, stopped/);
  assert.match(status.text, /host gone +\S/);
});

test("plan --all plans for every exit node there is, once for a container that two entries show", async () => {
  await open(["pve1", "pve2"], { cluster: true });
  await world.exitNode(0, 101, "one");
  await world.exitNode(1, 102, "two");
  const planned = await planExitNodes(world.call([], { all: true }));
  const { plans, changes, failed } = planned.value as {
    plans: { name: string; host: string }[];
    [key: string]: unknown;
  };
  assert.deepEqual(
    plans.map(({ name, host }) => [name, host]),
    [
      ["one", "pve1"],
      ["two", "pve1"],
    ],
  );
  assert.deepEqual([changes, failed, planned.exitCode], [true, 0, 4]);
  await addLost();
  const less = await planExitNodes(world.call([], { all: true }));
  assert.equal(less.exitCode, 1);
  assert.match(less.text, /one +pve1 +\d+ steps?\ntwo +pve1 +\d+ steps?\n- +gone +\S/);
});

test("one exit node per host is named after its host, and what only one can have is refused", async () => {
  await open(["pve1", "pve2"]);
  await world.exitNode(0, 101, "cafe-pve1");
  const planned = await planExitNodes(world.call([], { host: ["pve1", "pve2"], name: "cafe" }));
  const { plans } = planned.value as { plans: { name: string; host: string; error?: { code: string } }[] };
  assert.deepEqual(
    plans.map(({ name, host }) => [name, host]),
    [
      ["cafe-pve1", "pve1"],
      ["cafe-pve2", "pve2"],
    ],
  );
  for (const [option, value] of Object.entries({ vmid: "105", ip: "10.0.0.7/24", pveNode: "pve1" }))
    await assert.rejects(createExitNode(world.call([], { host: ["pve1", "pve2"], [option]: value })), {
      code: "usage",
      message: /one exit node's alone, and 2 hosts/,
    });
  await assert.rejects(createExitNode(world.call([], { host: ["pve1", "pve1"] })), { code: "usage" });
});

test("a create that fails on one host says so, goes on to the other, and ends with 1", async () => {
  await open(["pve1", "pve2"]);
  const made = await createExitNode(world.call([], { host: ["nowhere", "pve1", "pve2"], bridge: "vmbr9" }));
  assert.equal(made.exitCode, 1);
  const { exitNodes, failed } = made.value as {
    exitNodes: { host: string; error: { code: string } }[];
    failed: number;
  };
  assert.deepEqual([failed, exitNodes.map(({ host }) => host)], [3, ["nowhere", "pve1", "pve2"]]);
  assert.equal(exitNodes[0]?.error.code, "host-unknown");
  assert.match(
    made.text,
    /^nowhere: "home-nowhere" was not made: there is no host "nowhere".*\[host-unknown\]\n {2}→ /,
  );
  assert.match(made.text, /\n\npve2: "home-pve2" was not made: /);
});

test("a host that never answers is given up after its time, and the others' answers are there", async () => {
  await open(["pve1", "pve2"]);
  const ask = (_: unknown, host: string) =>
    host === "pve1" ? new Promise<string>(() => undefined) : Promise.resolve("here");
  const [silent, other] = await askHosts(world.call([]), ["pve1", "pve2"], ask, 30);
  assert.deepEqual(other, { host: "pve2", value: "here" });
  assert.ok(silent !== undefined && "error" in silent);
  assert.equal(silent.error.code, "host-deadline");
});
