import assert from "node:assert/strict";
import { test } from "node:test";
import { applyAccess, describeAccess, planAccess } from "../../src/pve/bootstrap.js";
import type { Acl, PveAccess } from "../../src/pve/guests.js";
import { ROLES } from "../../src/pve/permissions.js";

/** Users, roles, tokens and rules of a host, as Proxmox keeps them: a token's rules go when the token goes. */
class AccessModel implements PveAccess {
  readonly roleMap = new Map<string, readonly string[]>([["PVEAdmin", ["VM.Allocate"]]]);
  readonly tokenMap = new Map<string, string[]>([["root@pam", []]]);
  readonly poolNames: string[] = [];
  rules: Acl[] = [];
  made = 0;

  async roles() {
    return new Map(this.roleMap);
  }
  async setRole(role: string, privs: readonly string[], exists: boolean) {
    assert.equal(this.roleMap.has(role), exists, `role ${role} exists`);
    this.roleMap.set(role, privs);
  }
  async users() {
    return [...this.tokenMap.keys()];
  }
  async createUser(user: string) {
    assert.ok(!this.tokenMap.has(user), "create user failed: already exists");
    this.tokenMap.set(user, []);
  }
  async tokens(user: string) {
    return (this.tokenMap.get(user) ?? []).map((id) => ({ id, privsep: true }));
  }
  async createToken(user: string, id: string) {
    const tokens = this.tokenMap.get(user);
    assert.ok(tokens !== undefined && !tokens.includes(id), "Token already exists.");
    tokens.push(id);
    this.made++;
    return { tokenId: `${user}!${id}`, secret: `secret ${this.made}` };
  }
  async deleteToken(user: string, id: string) {
    this.tokenMap.set(
      user,
      (this.tokenMap.get(user) ?? []).filter((one) => one !== id),
    );
    this.rules = this.rules.filter(({ holder }) => holder !== `${user}!${id}`);
  }
  async createPool(pool: string) {
    assert.ok(!this.poolNames.includes(pool), "create pool failed: already exists");
    this.poolNames.push(pool);
  }
  async pools() {
    return this.poolNames;
  }
  async acls() {
    return [...this.rules];
  }
  async setAcl(acl: Acl) {
    assert.ok(this.roleMap.has(acl.role), "role does not exist");
    assert.ok(this.tokenMap.has(acl.holder.split("!")[0] ?? ""), "user does not exist");
    this.rules.push(acl);
  }
}

const WISH = { nodes: ["pve1"], storages: ["local", "tank", "local"], bridges: [{ name: "vmbr0" }] };

test("a fresh host gets roles, user, token, and each rule for both user and token", async () => {
  const host = new AccessModel();
  assert.deepEqual(await applyAccess(host, await planAccess(host, WISH)), {
    tokenId: "exitnode@pve!cli",
    secret: "secret 1",
  });
  assert.deepEqual(host.roleMap.get("ExitnodeNetwork"), ["SDN.Use"]);
  assert.deepEqual(
    host.rules.map(({ path, role, holder }) => `${path} ${role} ${holder}`),
    [
      "/vms ExitnodeGuests",
      "/storage/local ExitnodeStorage",
      "/storage/tank ExitnodeStorage",
      "/sdn/zones/localnetwork/vmbr0 ExitnodeNetwork",
      "/nodes/pve1 ExitnodeNode",
    ].flatMap((rule) => [`${rule} exitnode@pve`, `${rule} exitnode@pve!cli`]),
  );
});

test("run again, only the token is made anew, with the rules that went with the old one", async () => {
  const host = new AccessModel();
  await applyAccess(host, await planAccess(host, WISH));
  const steps = await planAccess(host, WISH);
  assert.equal(describeAccess(steps[0] ?? { do: "user", user: "" }), "replace the API token exitnode@pve!cli");
  assert.ok(steps.slice(1).every((step) => step.do === "acl" && step.acl.kind === "token"));
  assert.equal(steps.length, 1 + 5);
  assert.deepEqual(await applyAccess(host, steps), { tokenId: "exitnode@pve!cli", secret: "secret 2" });
  assert.equal(host.rules.length, 10);
});

test("a second machine gets a token beside the first one's, which goes on with its rules", async () => {
  const host = new AccessModel();
  await applyAccess(host, await planAccess(host, { ...WISH, token: "cli-anna" }));
  const steps = await planAccess(host, { ...WISH, token: "cli-ben" });
  assert.equal(describeAccess(steps[0] ?? { do: "user", user: "" }), "make the API token exitnode@pve!cli-ben");
  await applyAccess(host, steps);
  assert.deepEqual(
    (await host.tokens("exitnode@pve")).map(({ id }) => id),
    ["cli-anna", "cli-ben"],
  );
  for (const name of ["cli-anna", "cli-ben"])
    assert.equal(host.rules.filter(({ holder }) => holder === `exitnode@pve!${name}`).length, 5);
});

test("interrupted after any step, a second run ends in the same rules", async () => {
  const whole = new AccessModel();
  await applyAccess(whole, await planAccess(whole, WISH));
  const key = ({ rules }: AccessModel) => rules.map((rule) => JSON.stringify(rule)).sort();
  const total = (await planAccess(new AccessModel(), WISH)).length;
  for (let cut = 1; cut < total; cut++) {
    const host = new AccessModel();
    const steps = (await planAccess(host, WISH)).slice(0, cut);
    await applyAccess(host, steps).catch((error: { code?: string }) => assert.equal(error.code, "access-plan-empty"));
    await applyAccess(host, await planAccess(host, WISH));
    assert.deepEqual(key(host), key(whole), `cut after step ${cut}`);
  }
});

test("a role that someone widened keeps what was added, and one that lacks something is completed", async () => {
  const host = new AccessModel();
  host.roleMap.set("ExitnodeStorage", ["Datastore.Allocate", "Datastore.Audit"]);
  await applyAccess(host, await planAccess(host, WISH));
  assert.deepEqual(
    [...(host.roleMap.get("ExitnodeStorage") ?? [])].sort(),
    ["Datastore.Allocate", ...ROLES.ExitnodeStorage].sort(),
  );
});

test("with a pool, guests are allowed in that pool only, and with a VLAN, the bridge in that VLAN only", async () => {
  const host = new AccessModel();
  await applyAccess(host, await planAccess(host, { ...WISH, pool: "exits", bridges: [{ name: "vmbr0", vlan: 30 }] }));
  const paths = host.rules.map(({ path }) => path);
  assert.ok(paths.includes("/pool/exits") && !paths.includes("/vms"));
  assert.ok(paths.includes("/sdn/zones/localnetwork/vmbr0/30") && !paths.includes("/sdn/zones/localnetwork/vmbr0"));
});
