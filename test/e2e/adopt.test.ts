import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { openHost } from "../../src/cli/hosts.js";
import { pathsFrom } from "../../src/cli/paths.js";
import type { PveHost } from "../../src/pve/guests.js";
import { systemClock } from "../../src/sys/clock.js";
import { localFiles } from "../../src/sys/files.js";
import { eventually, World } from "./world.js";

/** A container that somebody made by hand in the lab becomes an exit node, and goes again. */
const world = new World();
const VMID = 120;
let pve: PveHost;

before(async () => {
  await world.json("appliance", "build");
  await world.raiseLab();
  await world.json("appliance", "upload", "--host", "lab");
  const parts = { files: localFiles, paths: pathsFrom(world.env, "."), env: {}, clock: systemClock };
  ({ pve } = await openHost(parts, "lab"));
});
after(async () => {
  pve.close();
  await world.close();
});

test("a container that does not let us in is left as it is, and the advice lets us in", async () => {
  const [template] = await pve.templates("pve1", "local");
  const wanted = { vmid: VMID, hostname: "attic", unprivileged: true, memory: 512, features: "nesting=1" };
  const net0 = "name=eth0,bridge=vmbr0,ip=dhcp";
  const params = { ...wanted, ostemplate: template?.volid ?? "", rootfs: "local:4", net0, password: "by hand" };
  await pve.waitTask(await pve.create("pve1", params));
  await pve.waitTask(await pve.start("pve1", VMID));
  const before = await pve.config("pve1", VMID);
  const adopting = ["adopt", String(VMID), "--yes"];
  const ready = async (): Promise<boolean> =>
    (await pve.interfaces("pve1", VMID)).some(({ addresses }) => addresses.some((ip) => ip.includes("."))) &&
    (await world.tryInside(VMID, "systemctl", "is-active", "ssh.service")).code === 0;
  await eventually("it has an address and lets people in", ready, 180_000);
  const refused = await world.fails(adopting);
  assert.equal(refused.code, "ssh-key-refused", refused.message);
  assert.deepEqual(await pve.config("pve1", VMID), before);
  const [, inside] = /^pct exec 120 -- sh -c '.*; (mkdir .*)'$/m.exec(refused.advice) ?? [];
  assert.ok(inside, refused.advice);
  await world.inside(VMID, "sh", "-c", inside);
});

test("adopted, it works under its hostname, with a coordinator of its own", async () => {
  const { exitNode } = (await world.json("adopt", String(VMID), "--yes")) as { exitNode: { name: string } };
  assert.equal(exitNode.name, "attic");
  const { exitNodes } = (await world.json("status")) as { exitNodes: { name: string; online: boolean }[] };
  assert.deepEqual(
    exitNodes.map(({ name, online }) => [name, online]),
    [["attic", true]],
  );
});

test("a token that may not remove templates is told so before anything is gone; root takes both away", async () => {
  const refused = await world.fails(["destroy", "attic", "--host", "lab-token", "--template", "--yes"]);
  assert.equal(refused.code, "permissions-missing");
  assert.match(refused.advice, /^without its templates: .*\nor on the Proxmox host, as root:\npveum role add /);
  assert.equal((await pve.status("pve1", VMID)) ?? "gone", "running");
  await world.json("destroy", "attic", "--host", "lab", "--template", "--yes");
  assert.deepEqual(await pve.templates("pve1", "local"), []);
  assert.deepEqual(await pve.guests(), []);
  assert.equal(readFileSync(join(world.folder, "config/config.yaml"), "utf8").includes("coordinator:"), false);
});
