import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "../../src/provision/converge.js";
import { repair } from "../../src/provision/repair.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const NAME = { name: "home", given: {} };

test("a kernel that lost WireGuard makes the agent carry the traffic, and repair says so", async () => {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  await create(parts, REQUEST, NAME);
  const [container] = proxmox.containers.values();
  assert.ok(container);
  assert.deepEqual((await repair(parts, REQUEST, "home")).dataPlane, { was: "kernel", is: "kernel" });
  container.kernelWireguard = false;
  const repaired = await repair(parts, REQUEST, "home");
  assert.deepEqual(repaired.dataPlane, { was: "kernel", is: "userspace" });
  assert.deepEqual([repaired.done.changed, repaired.found], [true, ["/etc/exitnode/agent.yaml is different"]]);
  container.kernelWireguard = true;
  assert.deepEqual((await repair(parts, REQUEST, "home")).dataPlane, { was: "userspace", is: "kernel" });
});

test("a container that does not run is started again, and repair says that it was not running", async () => {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  await create(parts, REQUEST, NAME);
  const [container] = proxmox.containers.values();
  container?.stop();
  const repaired = await repair(parts, REQUEST, "home");
  assert.deepEqual([repaired.found, container?.running], [["the container does not run"], true]);
});

test("a name that no exit node has is refused, and nothing is made", async () => {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  await assert.rejects(repair(parts, REQUEST, "home"), { code: "exit-node-unknown" });
  assert.equal(proxmox.containers.size, 0);
});
