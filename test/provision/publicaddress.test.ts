import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "../../src/provision/converge.js";
import { formerAdvice } from "../../src/provision/outcome.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const FOUND = "https://203.0.113.10:443";
const LAN = "https://198.18.77.100:443";

/** A network whose coordinator was found by asking; `leading` are the addresses that lead to it. */
async function network() {
  const proxmox = new ModelProxmox();
  const machine = new ModelMachine();
  const leading = new Set<string>();
  const asked: string[] = [];
  const run = async (publicAddress?: string) => {
    const parts = await modelParts(proxmox, machine);
    const leadsTo = async (address: string, fingerprint: string): Promise<boolean> => {
      asked.push(address);
      return fingerprint === "AA" && leading.has(address);
    };
    const given = publicAddress === undefined ? {} : { publicAddress };
    const done = await create({ ...parts, leadsTo }, REQUEST, { name: "home", given });
    const [container] = proxmox.containers.values();
    const told = String(container?.files.get("/etc/exitnode/coordinator.yaml")?.content).match(/https:[^"\s]+/g) ?? [];
    assert.deepEqual(machine.record?.urls, told.slice(0, machine.record?.urls.length), "both say the same");
    return { urls: machine.record?.urls, done };
  };
  await run();
  return { run, leading, asked };
}

test("devices are told the address of before beside a name that is not seen to lead to the coordinator", async () => {
  const { run, asked } = await network();
  assert.deepEqual(asked, [], "one address needs no asking");
  const { urls, done } = await run("typo.example.org");
  assert.deepEqual(urls, ["https://typo.example.org:443", FOUND, LAN]);
  assert.match(formerAdvice(done.view) ?? "", /^typo\.example\.org is not seen .* told 203\.0\.113\.10 as well/);
  const again = await run();
  assert.deepEqual([again.urls, again.done.changed], [urls, false]);
});

test("a second wrong name takes the first one's place, never that of the address which led there", async () => {
  const { run } = await network();
  await run("typo.example.org");
  assert.deepEqual((await run("other.example.org")).urls, ["https://other.example.org:443", FOUND, LAN]);
});

test("once the name is seen to lead to the coordinator, the next create takes the address of before away", async () => {
  const { run, leading } = await network();
  await run("home.example.org");
  leading.add("home.example.org");
  const { urls, done } = await run();
  assert.deepEqual(urls, ["https://home.example.org:443", LAN]);
  assert.deepEqual([done.changed, formerAdvice(done.view)], [true, undefined]);
  assert.equal((await run()).done.changed, false);
});

test("a name that leads to the coordinator from the start stands alone beside the LAN's address", async () => {
  const { run, leading } = await network();
  leading.add("home.example.org");
  assert.deepEqual((await run("home.example.org")).urls, ["https://home.example.org:443", LAN]);
});
