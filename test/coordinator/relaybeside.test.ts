import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { readFile } from "node:fs/promises";
import { request } from "node:https";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { keyBytes, keyOf, parseKey } from "../../src/kit/key.js";
import { decodeStunAnswer, encodeStunRequest } from "../../src/nat/stun.js";
import { systemRandom } from "../../src/sys/random.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import { ADMISSION_LIFETIME_MS, CLOCK_SKEW_MAX_MS, issueAdmission } from "../../src/wire/admission.js";
import { REVOKE_PATH } from "../../src/wire/relay.js";
import { type Bench, openBench } from "./bench.js";
import { freePort } from "./freeport.js";
import { Member } from "./member.js";
import { allowedMs } from "./yardstick.js";

/** The relay on the coordinator's own port. */
const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

const url = (): string => `https://127.0.0.1:${bench.coordinator.port}`;
const relayOf = (member: Member) => member.map?.relays?.[0] ?? assert.fail("a relay in the map");

test("two members log in at the relay beside, with what they were told alone, and datagrams pass", LIMIT, async () => {
  const [left, right] = [await Member.join(bench, "left"), await Member.join(bench, "right")];
  assert.deepEqual(
    { ...relayOf(left), relayKey: "" },
    { id: "coordinator", name: "coordinator", url: "https://127.0.0.1:1", relayKey: "", stunPort: 0 },
  );
  const [a, b] = [left.dial(url(), relayOf(left).relayKey), right.dial(url(), relayOf(right).relayKey)];
  await left.until(() => a.connected);
  await right.until(() => b.connected);
  a.client?.send(right.publicKey, Buffer.from("over the relay"));
  await right.until(() => b.heard.length > 0);
  assert.deepEqual(b.heard, [{ from: left.publicKey, text: "over the relay" }]);
  await Promise.all([left.leave(), right.leave()]);
});

test(
  "a revoked device is cut at the relay beside within a second and refused there with the admission it still has",
  LIMIT,
  async () => {
    const thief = await Member.join(bench, "thief");
    const { relayKey } = relayOf(thief);
    const at = thief.dial(url(), relayKey);
    await thief.until(() => at.connected);
    const askedAt = performance.now();
    const { body } = await bench.call("POST", "/api/v1/devices/thief/revoke");
    await thief.until(() => at.states.some(({ kind }) => kind === "waiting"));
    const cut = (at.states.find(({ kind }) => kind === "waiting")?.at ?? Number.NaN) - askedAt;
    const allowed = await allowedMs(1_000, () => bench.call("GET", "/api/v1/status"));
    assert.ok(cut < allowed, `${cut} ms of ${allowed}`);
    assert.equal(at.refusal, "revoked");
    assert.deepEqual((body as DeviceInfo).told?.relays, { asked: 1, confirmed: 1, silent: [] });
    console.log(`cut at the relay beside after ${cut.toFixed(0)} ms`);

    const again = thief.dial(url(), relayKey, thief.admissions[0]);
    await thief.until(() => again.refusal !== undefined);
    assert.equal(again.refusal, "revoked");
    await bench.restart();
    const later = thief.dial(url(), relayKey, thief.admissions[0]);
    await thief.until(() => later.refusal !== undefined);
    assert.equal(later.refusal, "revoked", "a restart forgets nobody whose admission may still be good");
    await thief.leave();
  },
);

test("an expired admission, and one by another hand, open nothing", LIMIT, async () => {
  const member = await Member.join(bench, "stale");
  const { relayKey } = relayOf(member);
  const keys = { machineKey: keyOf(member.machineKey.publicKey), publicKey: member.publicKey };
  const seed = keyBytes(parseKey((await readFile(join(bench.folder, "admission.key"), "utf8")).trim()));
  const [now, then] = [Date.now(), Date.now() - ADMISSION_LIFETIME_MS - CLOCK_SKEW_MAX_MS - 1_000];
  for (const { admission, says } of [
    { admission: issueAdmission(systemRandom(32), { ...keys, now }), says: "admission-forged" },
    { admission: issueAdmission(seed, { ...keys, now: then }), says: "admission-expired" },
  ]) {
    const at = member.dial(url(), relayKey, admission);
    await member.until(() => at.refusal !== undefined);
    assert.equal(at.refusal, says);
  }
  await member.leave();
});

test(
  "administration does not pass through the relay: its path answers no request, nor does the place for revocations",
  LIMIT,
  async () => {
    for (const [method, path] of [
      ["GET", "/relay"],
      ["POST", REVOKE_PATH],
    ] as const)
      assert.equal(await statusOf(method, path), 404, path);
  },
);

test("STUN beside the coordinator tells the asker its own address and port", LIMIT, async () => {
  const free = await freePort();
  const other = await openBench({ stunPort: free });
  try {
    const member = await Member.join(other, "asker");
    assert.equal(relayOf(member).stunPort, free);
    const socket = createSocket("udp4");
    await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
    const id = systemRandom(12);
    const answered = new Promise<Buffer>((resolve) => socket.once("message", resolve));
    socket.send(encodeStunRequest(id), free, "127.0.0.1");
    const answer = decodeStunAnswer(await answered);
    assert.equal(JSON.stringify(answer).includes(String(socket.address().port)), true);
    socket.close();
    await member.leave();
  } finally {
    await other.close();
  }
});

function statusOf(method: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = request(`${url()}${path}`, { method, rejectUnauthorized: false, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end();
  });
}
