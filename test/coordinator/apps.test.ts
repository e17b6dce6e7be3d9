import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { type AddedApp, type AppRequest, addedApp, type DeviceInfo } from "../../src/wire/adminapi.js";
import type { AuditEntry } from "../../src/wire/audit.js";
import type { DeviceReport } from "../../src/wire/control.js";
import { lockKeyOf, lockSecretHash, signDevice, signRecord, signStatement } from "../../src/wire/lock.js";
import type { MapPeer } from "../../src/wire/map.js";
import type { Bench, TestDevice } from "./bench.js";
import { overBothStores } from "./bothstores.js";

const LIMIT = { timeout: 120_000 };
const HOUR_MS = 3_600_000;
const keyNow = () => keyOf(keyPairOf(systemRandom(32)).publicKey);
const EVERYTHING = ["0.0.0.0/0", "::/0"] as Cidr[];
const OPEN: DeviceReport = {
  endpoints: ["203.0.113.7:51820", "203.0.113.7:40001", "192.168.1.20:51820"],
  routes: EVERYTHING,
  resolvers: ["192.168.1.1"] as Ip[],
  open: ["203.0.113.7:40001"],
};

overBothStores(({ open }) => {
  let bench: Bench;
  let home: TestDevice;
  let laptop: TestDevice;
  before(async () => {
    bench = await open();
    home = await join("home", "exit-node");
    laptop = await join("laptop", "device");
    await says(home, OPEN);
  });
  after(() => bench.close());

  const join = async (name: string, role: "device" | "exit-node"): Promise<TestDevice> =>
    bench.device(name, (await bench.key({ role })).secret).until(({ map }) => map !== undefined);
  const devices = async (): Promise<DeviceInfo[]> =>
    ((await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] }).devices;
  const infoOf = async (name: string): Promise<DeviceInfo> =>
    (await devices()).find((device) => device.name === name) ?? assert.fail(`there is no ${name}`);
  /** Fulfilled when the coordinator has taken it in: a friend is told. */
  async function says(exit: TestDevice, report: DeviceReport): Promise<void> {
    exit.client.report(report);
    const told = ({ map }: TestDevice) => map?.peers.find(({ name }) => name === "home")?.endpoints ?? [];
    await laptop.until((device) => told(device).join() === report.endpoints.join());
  }
  const ask = (wanted: Partial<AppRequest> & { readonly name: string }) =>
    bench.call("POST", "/api/v1/devices", { publicKey: keyNow(), ...wanted });
  async function add(wanted: Partial<AppRequest> & { readonly name: string }): Promise<AddedApp> {
    const { status, body } = await ask(wanted);
    assert.equal(status, 201, JSON.stringify(body));
    return addedApp.parse(body);
  }
  /** Status, code and what to do. */
  async function refusal(wanted: Partial<AppRequest> & { readonly name: string }): Promise<unknown[]> {
    const { status, body } = await ask(wanted);
    const { code, advice = "" } = body as { code: string; advice?: string };
    return [status, code, advice];
  }
  const remove = (name: string) => bench.call("DELETE", `/api/v1/devices/${name}`);
  const peerOf = (device: TestDevice, name: string): MapPeer | undefined =>
    device.map?.peers.find((peer) => peer.name === name);
  const hasPeer = (name: string) => (device: TestDevice) => peerOf(device, name) !== undefined;

  test("an app is told to its exit node and to nobody else, and is gone there when it is revoked", LIMIT, async () => {
    const cabin = await join("cabin", "exit-node");
    const app = await add({ name: "phone", exit: "home" });
    await home.until(hasPeer("phone"));
    const { endpoints, discoveryKey, app: mark, addresses } = peerOf(home, "phone") ?? assert.fail();
    assert.deepEqual([endpoints, discoveryKey, mark, addresses], [[], undefined, true, app.addresses]);
    const isFrom = (cidr: Cidr) => home.map?.filter?.some(({ routed, from }) => routed && from.includes(cidr)) === true;
    // On a busy machine a filter is told after the peer (MapWriter).
    await home.until(() => isFrom(`${app.addresses[0]}/32` as Cidr));
    // Whoever comes later is told of more than was there before it.
    const later = await join("later", "device");
    for (const other of [laptop, cabin, later]) assert.equal(peerOf(other, "phone"), undefined);
    assert.equal(
      later.map?.filter?.some(({ from }) => from.includes(`${app.addresses[0]}/32` as Cidr)),
      false,
    );
    const { told } = (await bench.call("POST", "/api/v1/devices/phone/revoke")).body as DeviceInfo;
    assert.deepEqual([told?.peers, told?.relays], [1, undefined]);
    assert.equal(peerOf(home, "phone"), undefined);
    await remove("phone");
    cabin.stop();
    await remove("cabin");
  });

  test("two apps of one exit node do not know each other", LIMIT, async () => {
    const [one, other] = [await add({ name: "one" }), await add({ name: "other" })];
    await home.until((device) => hasPeer("one")(device) && hasPeer("other")(device));
    const rules = home.map?.filter?.filter(({ routed }) => routed !== true) ?? [];
    for (const { to } of rules)
      assert.ok(![...one.addresses, ...other.addresses].some((ip) => to.some((prefix) => prefix.startsWith(ip))));
    for (const name of ["one", "other"]) await remove(name);
  });

  test("when an app was there says its own exit node, and it is known after a restart", LIMIT, async () => {
    const [phone, cabin] = [await add({ name: "phone" }), await join("cabin", "exit-node")];
    assert.equal((await infoOf("phone")).lastSeenAtMs, undefined);
    const atMs = Date.now() + 60_000;
    bench.advance(120_000);
    const told = { ...OPEN, apps: [{ id: phone.id, atMs }] };
    cabin.client.report({ ...told, endpoints: ["203.0.113.80:51820"] });
    await laptop.until(({ map }) => map?.peers.some((peer) => peer.endpoints[0] === "203.0.113.80:51820") === true);
    assert.equal((await infoOf("phone")).lastSeenAtMs, undefined, "it is not cabin's to say");
    const { createdAtMs } = await infoOf("phone");
    const early = [{ id: phone.id, atMs: createdAtMs - 5_000 }];
    await says(home, { ...OPEN, apps: early, endpoints: ["203.0.113.7:51822"] });
    assert.equal((await infoOf("phone")).lastSeenAtMs, createdAtMs, "the exit node's clock is behind");
    await says(home, { ...told, endpoints: ["203.0.113.7:51821"] });
    assert.equal((await infoOf("phone")).lastSeenAtMs, atMs);
    await says(home, OPEN);
    await bench.restart();
    assert.equal((await infoOf("phone")).lastSeenAtMs, atMs);
    await laptop.sees("home");
    cabin.stop();
    for (const name of ["phone", "cabin"]) await remove(name);
  });

  test("an answer holds what a configuration needs, and it is as it was after a restart", LIMIT, async () => {
    const { tunnel, app } = await add({ name: "phone" });
    assert.equal(tunnel.exitKey, home.publicKey);
    assert.deepEqual([tunnel.resolvers, tunnel.mtu], [["192.168.1.1"], 1280]);
    assert.deepEqual(app, { exit: "home", endpoint: "203.0.113.7:40001" });
    const before = await infoOf("phone");
    await bench.restart();
    assert.deepEqual(await infoOf("phone"), before);
    await laptop.sees("home");
    await home.until(hasPeer("phone"));
    await remove("phone");
  });

  test("what cannot be is refused with what to do instead, and nothing is left of it", LIMIT, async () => {
    const before = (await devices()).map(({ name }) => name);
    assert.deepEqual(await refusal({ name: "laptop" }), [
      409,
      "name-taken",
      "exitnode device remove laptop    (if it is to take that one's place)",
    ]);
    assert.deepEqual((await refusal({ name: "phone", publicKey: laptop.publicKey })).slice(0, 2), [409, "key-taken"]);
    assert.deepEqual(await refusal({ name: "phone", exit: "laptop" }), [
      404,
      "exit-unknown",
      "exitnode device add phone --exit home",
    ]);
    for (const endpoint of [
      "home",
      "home:0",
      "home:70000",
      "1.2.3:51820",
      "2001:db8::7:51820",
      "a b:1",
      "-a.example:1",
    ])
      assert.equal((await refusal({ name: "phone", endpoint }))[1], "message-invalid", endpoint);
    for (const name of ["", "Phone", "a".repeat(64)])
      assert.equal((await refusal({ name }))[1], "message-invalid", name);
    const second = await join("cabin", "exit-node");
    assert.deepEqual(await refusal({ name: "phone" }), [409, "exit-unsaid", "exitnode device add phone --exit home"]);
    second.stop();
    await remove("cabin");
    assert.deepEqual(
      (await devices()).map(({ name }) => name),
      before,
    );
  });

  test(
    "an exit node that nobody is known to reach takes an app with an endpoint alone, and says which",
    LIMIT,
    async () => {
      const { open: _, ...shut } = OPEN;
      await says(home, { ...shut, endpoints: ["203.0.113.7:51820", "192.168.1.20:51820"] });
      assert.deepEqual(await refusal({ name: "phone" }), [
        409,
        "endpoint-unknown",
        "forward udp/51820 on the router to 192.168.1.20, then again with --endpoint 203.0.113.7:51820",
      ]);
      for (const endpoint of ["home.example.org:51820", "[2001:db8::7]:443", "203.0.113.7:51820"]) {
        assert.equal((await add({ name: "phone", endpoint })).app?.endpoint, endpoint);
        await remove("phone");
      }
      await says(home, OPEN);
    },
  );

  test("what the policy does not let it use, an app is not made for", LIMIT, async () => {
    const put = async (text: string) => {
      const { status, body } = await bench.call("PUT", "/api/v1/policy", { text });
      assert.equal(status, 200, JSON.stringify(body));
    };
    const { text } = (await bench.call("GET", "/api/v1/policy")).body as { text: string };
    await put(
      'tagOwners:\n  tag:guest: []\ngrants:\n  - src: [tag:guest]\n    dst: ["0.0.0.0/0"]\n  - src: [autogroup:member]\n    dst: [device:home]\n',
    );
    assert.deepEqual(await refusal({ name: "phone" }), [409, "policy-denies", "exitnode policy show"]);
    await add({ name: "phone", onlyNetwork: true });
    await add({ name: "guest", tags: ["guest"] });
    await home.until((device) => hasPeer("phone")(device) && hasPeer("guest")(device));
    for (const name of ["phone", "guest"]) await remove(name);
    await put(text);
  });

  test("its exit node keeps its key from then on, and one with another key or address shows", LIMIT, async () => {
    const mortal = { exitKeyLifetimeMs: 2 * HOUR_MS, keyRotationMs: HOUR_MS };
    const old = (await bench.call("GET", "/api/v1/settings")).body as {
      exitKeyLifetimeMs: number;
      keyRotationMs: number;
    };
    await bench.call("PATCH", "/api/v1/settings", mortal);
    // An exit node that has no app any more changes its key again once it has come anew.
    await bench.restart();
    await home.until(({ map }) => map?.self.keyExpiresAtMs !== undefined);
    await add({ name: "phone" });
    await home.until(({ map }) => map?.self.keyExpiresAtMs === undefined && map?.self.rotateAtMs === undefined);
    bench.advance(3 * HOUR_MS);
    assert.equal((await infoOf("home")).waiting, undefined);
    await bench.restart();
    await laptop.sees("home");
    const { waiting, rotateAtMs, keyExpiresAtMs } = await infoOf("home");
    assert.deepEqual([waiting, rotateAtMs, keyExpiresAtMs], [undefined, undefined, undefined]);
    await says(home, { ...OPEN, endpoints: ["203.0.113.9:51820"], open: ["203.0.113.9:51820"] });
    assert.equal((await infoOf("phone")).app?.stale, "address");
    await says(home, OPEN);
    assert.equal((await infoOf("phone")).app?.stale, undefined);
    home.stop();
    await home.stopped;
    home = await bench.device("home", undefined, home.machineKey).until(({ map }) => map !== undefined);
    assert.equal((await infoOf("phone")).app?.stale, "key");
    await laptop.until((device) => peerOf(device, "home")?.publicKey === home.publicKey);
    await says(home, OPEN);
    await remove("phone");
    await bench.call("PATCH", "/api/v1/settings", old);
  });

  test("an app can be renamed, tagged, ended and let in again, and no time ends it", LIMIT, async () => {
    const { id } = (await bench.call("POST", "/api/v1/users", { login: "anna" })).body as { id: string };
    await bench.call("PATCH", "/api/v1/settings", { approvalRequired: true });
    const app = await add({ name: "phone", user: "anna" });
    assert.deepEqual([app.user, app.waiting, app.keyExpiresAtMs], ["anna", undefined, undefined]);
    const patch = (body: unknown) => bench.call("PATCH", `/api/v1/devices/${app.id}`, body);
    await home.until(hasPeer("phone"));
    await patch({ name: "telephone" });
    await home.until(hasPeer("telephone"));
    await patch({ tags: ["guest"] });
    await patch({ tags: [] });
    assert.equal((await infoOf("telephone")).keyExpiresAtMs, undefined);
    await patch({ key: "expires-now" });
    await home.until((device) => !hasPeer("telephone")(device));
    await patch({ key: "never-expires" });
    await home.until(hasPeer("telephone"));
    await remove("telephone");
    await bench.call("PATCH", "/api/v1/settings", { approvalRequired: false });
    await bench.call("DELETE", `/api/v1/users/${id}`);
  });

  test("with a device lock it waits for a signature, which counts for the key that was brought", LIMIT, async () => {
    const [trusted, own] = [lockKeyOf(systemRandom(32)), lockKeyOf(systemRandom(32))];
    const lock = "0123456789abcdef0123456789abcdef";
    const secret = "00112233445566778899aabbccddeeff";
    const trust = { lock, version: 1, secretHash: lockSecretHash(secret), keys: [trusted.key], shutOut: [] };
    assert.equal((await bench.call("POST", "/api/v1/lock", { record: signRecord(trusted, trust) })).status, 200);
    const publicKey = keyNow();
    const statement = signStatement(own, { publicKey });
    const app = await add({ name: "phone", publicKey, lock: { key: own.key, statement } });
    assert.equal(app.waiting, "lock");
    const signatures = [{ device: "phone", signature: signDevice(trusted, lock, own.key) }];
    assert.equal((await bench.call("POST", "/api/v1/lock/signatures", { signatures })).status, 204);
    assert.equal((await infoOf("phone")).waiting, undefined);
    await home.until((device) => peerOf(device, "phone")?.lock?.signature !== undefined);
    await bench.call("POST", "/api/v1/lock/end", { secret });
    await remove("phone");
  });

  test("whoever has an app's private key is still a stranger to the coordinator", LIMIT, async () => {
    const pair = keyPairOf(systemRandom(32));
    await add({ name: "phone", publicKey: keyOf(pair.publicKey) });
    const impostor = await bench.device("phone", undefined, pair).until(({ refusal }) => refusal !== undefined);
    assert.equal(impostor.refusal, "join-key-required");
    await remove("phone");
  });

  test("who added it, and to which exit node, is in the audit log, and no key is", LIMIT, async () => {
    await add({ name: "phone" });
    const { entries } = (await bench.call("GET", "/api/v1/audit")).body as { entries: AuditEntry[] };
    const entry =
      entries.filter(({ action }) => action === "device.add").at(-1) ??
      entries.find(({ action }) => action === "device.add");
    assert.ok(entry !== undefined);
    assert.equal(entry.actor, "admin-token");
    assert.equal((JSON.parse(entry.details) as { exit: string }).exit, "home");
    await remove("phone");
  });
});
