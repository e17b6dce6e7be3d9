import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Call } from "../../src/cli/command.js";
import { readConfig, readCredentials, writeConfig, writeCredentials } from "../../src/cli/config.js";
import { journalFolder } from "../../src/cli/createparts.js";
import { destroyExitNode } from "../../src/cli/destroyaction.js";
import { onContainersHost, onItsHost } from "../../src/cli/itshost.js";
import { exitNodeLogs } from "../../src/cli/logsaction.js";
import { repairExitNode } from "../../src/cli/repairaction.js";
import { upgradeExitNodes } from "../../src/cli/upgradeaction.js";
import { Journal } from "../../src/provision/journal.js";
import { localFiles } from "../../src/sys/files.js";
import { SeveralHosts } from "./severalhosts.js";

/** Commands about an exit node find its host themselves: each host is the lab's API in this process. */
let world: SeveralHosts;
const open = async (...args: Parameters<SeveralHosts["open"]>): Promise<void> => {
  world = new SeveralHosts();
  await world.open(...args);
};
afterEach(() => world.close());

const hostOf = async (found: Promise<Call>) => (await found).options.host;

/** A host of the config behind which nobody is. */
async function addLost(): Promise<void> {
  const config = await readConfig(localFiles, world.config);
  const credentials = await readCredentials(localFiles, world.config);
  const { pve1 } = config.hosts;
  assert.ok(pve1);
  const gone = { ...pve1, url: "https://127.0.0.1:1" };
  await writeConfig(localFiles, world.config, { ...config, hosts: { gone, ...config.hosts } });
  const hosts = { ...credentials.hosts, gone: { secret: "x" } };
  await writeCredentials(localFiles, world.config, { ...credentials, hosts });
}

test("of several hosts the one that has the exit node is taken, and one that does not answer is told", async () => {
  await open(["pve1", "pve2"]);
  await addLost();
  await world.exitNode(0, 101, "attic");
  await world.exitNode(1, 102, "cellar");
  assert.equal(await hostOf(onItsHost(world.call([]), "cellar")), "pve2");
  assert.match(world.said.join("\n"), /^gone was not asked: .*127\.0\.0\.1/);
  assert.equal(await hostOf(onContainersHost(world.call([]), 101)), "pve1");
  assert.equal(await hostOf(onItsHost(world.call([], { host: "pve1" }), "cellar")), "pve1", "what is given counts");
});

test("a name on two hosts is refused with both, and the same host twice in the config is one", async () => {
  await open(["pve1", "pve2"]);
  await world.exitNode(0, 101, "home");
  await world.exitNode(1, 102, "home");
  await assert.rejects(onItsHost(world.call([]), "home"), {
    code: "name-ambiguous",
    message: 'exit node "home" is on pve1 (container 101) and on pve2 (container 102)',
    advice: "add --host pve1, or --host pve2",
  });
  await world.close();
  await open(["pve1", "pve2"], { cluster: true });
  await world.exitNode(1, 102, "home");
  assert.equal(await hostOf(onItsHost(world.call([]), "home")), "pve1");
});

test("every command about an exit node says that no host has it, and which host may have it", async () => {
  await open(["pve1", "pve2"]);
  const unknown = { code: "exit-node-unknown", message: 'there is no exit node "attic" on pve1 or pve2' };
  await assert.rejects(upgradeExitNodes(world.call(["attic"])), { ...unknown, advice: "exitnode list" });
  await assert.rejects(repairExitNode(world.call(["attic"])), unknown);
  await assert.rejects(exitNodeLogs(world.call(["attic"])), unknown);
  await assert.rejects(destroyExitNode(world.call(["attic"])), {
    ...unknown,
    advice: "exitnode list\nif only the coordinator knows of it: exitnode destroy attic --host pve1",
  });
  await addLost();
  await assert.rejects(repairExitNode(world.call(["attic"])), {
    code: "exit-node-unknown",
    message: /^there is no exit node "attic" on pve1 or pve2; gone was not asked: /,
    advice: "exitnode host check gone",
  });
});

test("what a killed run began is found where it was begun", async () => {
  await open(["pve1", "pve2"]);
  const call = world.call([]);
  const journal = await Journal.open(localFiles, journalFolder(call.parts), "pve2", "home");
  await journal.add({ at: 0, step: "join-key", phase: "begin" });
  assert.equal(await hostOf(onItsHost(call, "home")), "pve2");
});
