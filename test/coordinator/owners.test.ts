import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { CreatedKey, DeviceInfo, KeyInfo, KeyRequest } from "../../src/wire/adminapi.js";
import type { UserInfo } from "../../src/wire/identity.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import { type Administrator, administratorOf } from "./administrator.js";
import type { Bench, TestDevice } from "./bench.js";
import { overBothStores } from "./bothstores.js";

/** Whose a device is: by a key that says so, in the map, and against names that somebody else's rights go by. */

const LIMIT = { timeout: 120_000 };

overBothStores(({ open }) => {
  let bench: Bench;
  let admin: Administrator;
  let anna: UserInfo;
  before(async () => {
    bench = await open();
    admin = await administratorOf(bench);
    anna = (await bench.call("POST", "/api/v1/users", { login: "anna@example.com" })).body as UserInfo;
  });
  after(() => bench.close());

  const join = async (name: string, wanted: Partial<KeyRequest> = {}): Promise<TestDevice> =>
    bench.device(name, (await bench.key({ role: "device", ...wanted })).secret).until(({ map }) => map !== undefined);
  const infoOf = async (name: string): Promise<DeviceInfo> => {
    const { devices } = (await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] };
    return devices.find((device) => device.name === name) ?? assert.fail(`there is no ${name}`);
  };
  const make = async (wanted: object): Promise<{ status: number; code: unknown }> => {
    const { status, body } = await bench.call("POST", "/api/v1/keys", { role: "device", ...wanted });
    return { status, code: (body as { code?: unknown }).code };
  };

  test("key create --user lets in a device of that person, whom its peers and its own map name", LIMIT, async () => {
    const { code, stdout, stderr } = await admin.run("key", "create", "--user", "anna@example.com", "--json");
    assert.equal(code, 0, stderr);
    const created = JSON.parse(stdout) as CreatedKey;
    assert.deepEqual([created.userId, created.user], [anna.id, "anna@example.com"]);
    const laptop = bench.device("annas-laptop", decodeJoinKey(created.joinKey).secret);
    await laptop.until(({ map }) => map !== undefined);
    assert.equal(laptop.map?.self.user, "anna@example.com");
    assert.notEqual(laptop.map?.self.keyExpiresAtMs, undefined, "a person's device has to be signed in again one day");
    const exit = await join("home", { role: "exit-node" });
    await exit.sees("annas-laptop");
    const owners = exit.map?.peers.map(({ name, user, tags }) => ({ name, user, tags }));
    assert.deepEqual(owners, [{ name: "annas-laptop", user: "anna@example.com", tags: undefined }]);
    const server = await join("server", { tags: ["backup"] });
    assert.deepEqual(server.map?.self.tags, ["backup"]);
    const { userId, user } = await infoOf("annas-laptop");
    assert.deepEqual([userId, user], [anna.id, "anna@example.com"]);
    const listed = await admin.run("device", "list");
    assert.match(listed.stdout, /^NAME +ROLE +OWNER/);
    assert.match(listed.stdout, /^annas-laptop +device +anna@example\.com /m);
    assert.match(listed.stdout, /^server +device +tag:backup /m);
    assert.match((await admin.run("key", "list")).stdout, /once, for anna@example\.com/);
  });

  test("a key for nobody who is known, or for an exit node of somebody's, is refused", LIMIT, async () => {
    assert.deepEqual(await make({ user: "otto" }), { status: 404, code: "user-unknown" });
    assert.deepEqual(await make({ user: anna.id, role: "exit-node" }), { status: 400, code: "message-invalid" });
    const said = await admin.run("key", "create", "--user", "otto");
    assert.equal(said.code, 1);
    assert.match(said.stderr, /otto/);
  });

  test("a person who is disabled has no join keys any more, and gets none", LIMIT, async () => {
    const bob = (await bench.call("POST", "/api/v1/users", { login: "bob" })).body as UserInfo;
    const { secret, id } = await bench.key({ role: "device", user: "bob", reusable: true });
    await bench.device("bobs-phone", secret).until(({ map }) => map !== undefined);
    assert.equal((await bench.call("PATCH", "/api/v1/users/bob", { disabled: true })).status, 200);
    const late = bench.device("bobs-burner", secret);
    assert.equal(await late.stopped, "refused");
    assert.equal(late.refusal, "join-key-unknown");
    const { keys } = (await bench.call("GET", "/api/v1/keys")).body as { keys: KeyInfo[] };
    assert.equal(keys.find((key) => key.id === id)?.state, "revoked");
    assert.deepEqual(await make({ user: bob.id }), { status: 403, code: "sign-in-refused" });
  });

  test(
    "a name that the policy goes by is an administrator's to give, and not taken by asking for it",
    LIMIT,
    async () => {
      const policy = `
grants:
  - src: [autogroup:member]
    dst: [device:vault]
  - src: [autogroup:member]
    dst: [autogroup:internet]
    via: [gate]
  - src: [device:robot]
    dst: ["*"]
autoApprovers:
  exitNode: [device:spare]
`;
      assert.equal((await bench.call("PUT", "/api/v1/policy", { text: policy })).status, 200);
      const { secret } = await bench.key({ role: "device", reusable: true });
      for (const name of ["vault", "gate", "robot", "spare"]) {
        const device = await bench.device(name, secret).until(({ map }) => map !== undefined);
        assert.equal(device.map?.self.name, `${name}-2`);
      }
      const persons = await join("vault", { user: anna.id, name: "vault" });
      assert.equal(persons.map?.self.name, "vault-3", "nor by a key of a person's that names it");
      // A device that is in asks for it by another greeting.
      const [, renamed] = [persons.stop(), await persons.stopped];
      assert.equal(renamed, "stopped");
      const again = bench.device("gate", undefined, persons.machineKey);
      await again.until(({ map }) => map !== undefined);
      assert.equal(again.map?.self.name, "gate-3");
      // Whoever administers gives it: by a key of nobody's that names it, by an exit node's key, or by renaming.
      assert.equal((await join("whatever", { name: "vault" })).map?.self.name, "vault");
      assert.equal((await join("gate", { role: "exit-node" })).map?.self.name, "gate");
      assert.equal((await bench.call("PATCH", "/api/v1/devices/robot-2", { name: "robot" })).status, 200);
      // A holder keeps it, and it stays kept for the next one after it is gone.
      assert.equal((await bench.call("DELETE", "/api/v1/devices/vault")).status, 204);
      assert.equal((await bench.device("vault", secret).until(({ map }) => !!map)).map?.self.name, "vault-3");
    },
  );
});
