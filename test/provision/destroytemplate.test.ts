import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { create } from "../../src/provision/converge.js";
import { destroy, findDoomed } from "../../src/provision/destroy.js";
import { ROLES } from "../../src/pve/permissions.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const TEMPLATE = "local:vztmpl/debian-13-exitnode_0.1.0-1_amd64.tar.zst";
const OURS = Object.values(ROLES).flat();

async function withExitNode(privileges: readonly string[]) {
  const proxmox = new ModelProxmox();
  proxmox.privileges = new Set(privileges);
  const parts = await modelParts(proxmox, new ModelMachine());
  await create(parts, REQUEST, { name: "home", given: {} });
  assert.deepEqual([...proxmox.templates.keys()], [TEMPLATE]);
  return { proxmox, parts };
}

test("templates that the login may not remove are told before the container is touched, with the line that lets it", async () => {
  const { proxmox, parts } = await withExitNode(OURS);
  await assert.rejects(findDoomed(parts, REQUEST, "home", { templates: true }), (error: unknown) => {
    assert.ok(error instanceof Failure && error.code === "permissions-missing");
    assert.match(error.message, /lacks Datastore\.Allocate on \/storage\/local$/);
    assert.match(error.advice ?? "", /^without its templates: exitnode destroy home --host lab$/m);
    return /pveum acl modify \/storage\/local --roles ExitnodeDatastoreAllocate/.test(error.advice ?? "");
  });
  assert.ok(proxmox.containers.has(100));
  assert.equal((await findDoomed(parts, REQUEST, "home")).container?.vmid, 100, "without templates it may go");
});

test("with that right, container and templates go, and the question names both", async () => {
  const { proxmox, parts } = await withExitNode([...OURS, "Datastore.Allocate"]);
  const doomed = await findDoomed(parts, REQUEST, "home", { templates: true });
  assert.ok(doomed.words.includes(`the template ${TEMPLATE}`));
  assert.deepEqual((await destroy(parts, REQUEST, "home", doomed)).templates, [TEMPLATE]);
  assert.deepEqual([proxmox.containers.size, proxmox.templates.size], [0, 0]);
});
