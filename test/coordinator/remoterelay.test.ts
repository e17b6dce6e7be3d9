import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { openRelay, type Relay } from "../../src/cli/relaydaemon.js";
import { REVOKE_WAIT_MS } from "../../src/coordinator/relays.js";
import { parseKey } from "../../src/kit/key.js";
import { openHttps } from "../../src/sys/https.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { decodeRelayConfig } from "../../src/wire/relayconfig.js";
import { type Bench, openBench } from "./bench.js";
import { freePort } from "./freeport.js";
import { Member } from "./member.js";
import { allowedMs } from "./yardstick.js";

/** Relays that are processes of their own, as far as the coordinator can tell. */
const LIMIT = { timeout: 120_000 };
const LOOK_EVERY_MS = 20;
/** Of a revocation that a relay holds up: its bound, and what a machine with more to do needs for the rest. */
const WAITED_MAX_MS = 3 * REVOKE_WAIT_MS;
let bench: Bench;
let folder: string;
let far: Relay;
before(async () => {
  bench = await openBench();
  folder = await mkdtemp(join(tmpdir(), "exn-cr-"));
  far = await openFar(await freePort());
});
after(async () => {
  await bench.close();
  await far.close();
  await rm(folder, { recursive: true, force: true });
});

const openFar = (port: number): Promise<Relay> =>
  openRelay(
    { etc: folder, var: folder },
    decodeRelayConfig(
      {
        listen: { address: "127.0.0.1", port },
        stunPort: 0,
        coordinatorKeys: [bench.coordinator.status().admissionKey],
      },
      "the test",
    ),
  );
const urlOf = (port: number): string => `https://127.0.0.1:${port}`;
const put = (name: string, body: unknown) => bench.call("PUT", `/api/v1/relays/${name}`, body);
const remove = (name: string) => bench.call("DELETE", `/api/v1/relays/${name}`);
const revoke = async (name: string) =>
  ((await bench.call("POST", `/api/v1/devices/${name}/revoke`)).body as DeviceInfo).told?.relays;

test(
  "a relay that is added is in everybody's map at once, after the own one, and adding it again changes nothing",
  LIMIT,
  async () => {
    const member = await Member.join(bench, "mapped");
    const body = { url: urlOf(far.port), relayKey: far.publicKey, stunPort: 3_478, otherStunPort: 41_000 };
    assert.equal((await put("far", body)).status, 201);
    await member.until(() => member.map?.relays?.length === 2);
    assert.deepEqual(member.map?.relays?.[1], { id: "far", name: "far", ...body });
    const { seq } = member.map ?? {};
    assert.equal((await put("far", body)).status, 200);
    await member.settled();
    assert.equal(member.map?.seq, seq);
    assert.equal((await put("coordinator", body)).status, 400);
    await bench.restart();
    const back = await Member.join(bench, "after");
    assert.equal(back.map?.relays?.[1]?.name, "far", "it outlives a restart");
    await Promise.all([member.leave(), back.leave()]);
  },
);

test("a revoked device is cut within a second at a relay of another machine too, and stays out", LIMIT, async () => {
  const thief = await Member.join(bench, "thief");
  await thief.until(() => thief.admissions.length > 0);
  const at = thief.dial(urlOf(far.port), parseKey(far.publicKey));
  await thief.until(() => at.connected);
  const askedAt = performance.now();
  assert.deepEqual(await revoke("thief"), { asked: 2, confirmed: 2, silent: [] });
  await thief.until(() => at.refusal !== undefined);
  const cut = (at.states.find(({ kind }) => kind === "waiting")?.at ?? Number.NaN) - askedAt;
  const allowed = await allowedMs(1_000, () => bench.call("GET", "/api/v1/status"));
  assert.ok(cut < allowed, `${cut} ms of ${allowed}`);
  console.log(`cut at a relay of another machine after ${cut.toFixed(0)} ms`);
  const again = thief.dial(urlOf(far.port), parseKey(far.publicKey), thief.admissions[0]);
  await thief.until(() => again.refusal !== undefined);
  assert.equal(again.refusal, "revoked");
  await thief.leave();
});

test(
  "a relay that was down when a device was revoked is named in the receipt, and told when it is back",
  LIMIT,
  async () => {
    const thief = await Member.join(bench, "later");
    await thief.until(() => thief.admissions.length > 0);
    const { port } = far;
    await far.close();
    const askedAt = performance.now();
    assert.deepEqual(await revoke("later"), { asked: 2, confirmed: 1, silent: ["far"] });
    assert.ok(performance.now() - askedAt < WAITED_MAX_MS);
    far = await openFar(port);
    const { counters } = far.service.switchboard;
    while (counters.revocations === 0) await delay(LOOK_EVERY_MS);
    const at = thief.dial(urlOf(port), parseKey(far.publicKey), thief.admissions[0]);
    await thief.until(() => at.refusal !== undefined);
    assert.equal(at.refusal, "revoked");
    await thief.leave();
  },
);

test("a relay with another certificate than the pinned one confirms nothing", LIMIT, async () => {
  const https = openHttps();
  const seen = await https.peerFingerprint(urlOf(far.port));
  https.close();
  const body = { url: urlOf(far.port), relayKey: far.publicKey, stunPort: 0 };
  const member = await Member.join(bench, "pinned");
  assert.equal((await put("far", { ...body, tlsFingerprint: seen })).status, 201);
  assert.deepEqual((await revoke("pinned"))?.silent, []);
  await member.leave();
  const other = await Member.join(bench, "mispinned");
  assert.equal(
    (await put("far", { ...body, tlsFingerprint: seen.replace(/^../, seen.startsWith("00") ? "01" : "00") })).status,
    201,
  );
  assert.deepEqual((await revoke("mispinned"))?.silent, ["far"]);
  await other.leave();
});

test(
  "a relay that takes connections and says nothing delays a revocation's answer by a bounded time",
  LIMIT,
  async () => {
    const mute = createServer((socket) => socket.on("error", () => undefined));
    await new Promise<void>((resolve) => mute.listen(0, "127.0.0.1", resolve));
    const address = mute.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await remove("far");
    assert.equal((await put("mute", { url: urlOf(port), relayKey: far.publicKey })).status, 201);
    const member = await Member.join(bench, "muted");
    const askedAt = performance.now();
    assert.deepEqual(await revoke("muted"), { asked: 2, confirmed: 1, silent: ["mute"] });
    const took = performance.now() - askedAt;
    assert.ok(took < WAITED_MAX_MS, `${took} ms`);
    assert.equal((await remove("mute")).status, 204);
    assert.equal((await remove("mute")).status, 404);
    assert.equal((await bench.call("GET", "/api/v1/relays")).status, 200);
    await member.leave();
    mute.close();
  },
);
