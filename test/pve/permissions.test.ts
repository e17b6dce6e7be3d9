import assert from "node:assert/strict";
import { test } from "node:test";
import { holds, missing, needsForCreate, needsForSave, pveumLines } from "../../src/pve/permissions.js";
import { permissionsReply } from "../../src/pve/replies.js";

/** As recorded for a privilege-separated token. */
const GRANTED = permissionsReply({
  "/nodes/pve1": { "Sys.Audit": 1 },
  "/sdn/zones/localnetwork/vmbr0": { "SDN.Use": 1 },
  "/vms": {
    "VM.Config.Memory": 1,
    "VM.Config.CPU": 1,
    "VM.Config.Options": 1,
    "VM.PowerMgmt": 1,
    "VM.Config.Network": 1,
    "VM.Config.Disk": 1,
    "VM.Audit": 1,
    "VM.Allocate": 1,
  },
  "/storage/local": { "Datastore.AllocateTemplate": 1, "Datastore.AllocateSpace": 1, "Datastore.Audit": 1 },
});
const PLAN = { node: "pve1", storage: "local", templateStorage: "local", bridge: "vmbr0", upload: true };

test("the recorded minimal token lacks nothing for a create with upload", () => {
  assert.deepEqual(missing(GRANTED, needsForCreate(PLAN)), []);
});

test("everything missing is told at once, with lines for user and token", () => {
  const lacking = missing(GRANTED, [
    ...needsForCreate({ ...PLAN, storage: "tank", bridge: "vmbr1", vlan: 30 }),
    ...needsForSave("snapshot", { rootStorage: "local" }),
    ...needsForSave("backup", { rootStorage: "local" }),
    ...needsForSave("copy", { rootStorage: "local" }),
  ]);
  assert.deepEqual(
    lacking.map(({ path, anyOf }) => `${path} ${anyOf.join("|")}`),
    [
      "/storage/tank Datastore.AllocateSpace",
      "/sdn/zones/localnetwork/vmbr1/30 SDN.Use",
      "/vms VM.Snapshot",
      "/vms VM.Snapshot.Rollback|VM.Snapshot",
      "/vms VM.Backup",
      "/vms VM.Clone",
    ],
  );
  const lines = pveumLines("rm@pve!client", lacking);
  assert.equal(lines.filter((line) => line.startsWith("pveum role add ")).length, 3);
  assert.deepEqual(
    lines.filter((line) => line.startsWith("pveum acl ")),
    [
      "pveum acl modify /storage/tank --roles ExitnodeStorage --users rm@pve --tokens 'rm@pve!client'",
      "pveum acl modify /sdn/zones/localnetwork/vmbr1/30 --roles ExitnodeNetwork --users rm@pve --tokens 'rm@pve!client'",
      "pveum acl modify /vms --roles ExitnodeGuests --users rm@pve --tokens 'rm@pve!client'",
    ],
  );
});

test("a user who logs in with a password gets no token in the lines", () => {
  const [, grant] = pveumLines("rm@pve", [{ path: "/nodes/pve1", anyOf: ["Sys.Audit"], purpose: "" }]);
  assert.equal(grant, "pveum acl modify /nodes/pve1 --roles ExitnodeNode --users rm@pve");
});

test("with a pool, the guests' privileges are asked for on the pool", () => {
  const paths = needsForCreate({ ...PLAN, pool: "exits" }).filter(({ anyOf }) => anyOf[0]?.startsWith("VM."));
  assert.deepEqual([...new Set(paths.map(({ path }) => path))], ["/pool/exits"]);
});

for (const { name, held, path, expect } of [
  { name: "held at the path itself", held: { "/vms": { "VM.Audit": 1 } }, path: "/vms", expect: true },
  { name: "held here only still holds here", held: { "/vms": { "VM.Audit": 0 } }, path: "/vms", expect: true },
  { name: "reaches below", held: { "/": { "VM.Audit": 1 } }, path: "/vms/101", expect: true },
  { name: "held above without reaching below", held: { "/vms": { "VM.Audit": 0 } }, path: "/vms/101", expect: false },
  {
    name: "replaced further down",
    held: { "/": { "VM.Audit": 1 }, "/vms": { "VM.Clone": 1 } },
    path: "/vms/1",
    expect: false,
  },
  { name: "nothing at all", held: null, path: "/vms", expect: false },
]) {
  test(`a privilege ${name}: ${expect ? "counts" : "does not count"}`, () => {
    assert.equal(holds(permissionsReply(held), path, "VM.Audit"), expect);
  });
}
