import assert from "node:assert/strict";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ed25519PublicKeyOf, keyPairOf } from "../../src/kit/crypto.js";
import { keyBytes, keyOf, parseKey } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { coordinatorStatus } from "../../src/wire/adminapi.js";
import { ADMISSION_LIFETIME_MS, verifyAdmission } from "../../src/wire/admission.js";
import { type Bench, openBench } from "./bench.js";
import { Member } from "./member.js";
import { greetRaw } from "./rawdevice.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

const signers = (): Uint8Array[] => [keyBytes(parseKey(bench.coordinator.status().admissionKey ?? ""))];

test("a member is given an admission for its two keys, which the key in the status verifies", LIMIT, async () => {
  const member = await Member.join(bench, "admitted");
  await member.until(() => member.admissions.length > 0);
  const verified = verifyAdmission(member.admissions[0] ?? new Uint8Array(0), signers(), Date.now());
  assert.ok(typeof verified === "object", String(verified));
  assert.equal(verified.admission.machineKey, keyOf(member.machineKey.publicKey));
  assert.equal(verified.admission.publicKey, member.publicKey);
  assert.equal(verified.admission.expiresAt - verified.admission.issuedAt, ADMISSION_LIFETIME_MS);
  await member.leave();
});

test("a device that comes back with another WireGuard key is admitted by the new one at once", LIMIT, async () => {
  const machineKey = keyPairOf(systemRandom(32));
  const keys = [keyOf(keyPairOf(systemRandom(32)).publicKey), keyOf(keyPairOf(systemRandom(32)).publicKey)];
  const { secret } = await bench.key({ role: "device", reusable: true });
  const seen: string[] = [];
  for (const publicKey of keys) {
    const { answer, transport, next, socket } = await greetRaw(bench, "renewed", machineKey, publicKey, secret);
    assert.equal(answer.type, "welcome");
    for (let admitted = false; !admitted; ) {
      const text = Buffer.from(transport.open(await next()) ?? []).toString();
      const { type, admission } = JSON.parse(text) as { type: string; admission: string };
      if (type !== "admission") continue;
      const verified = verifyAdmission(Buffer.from(admission, "base64"), signers(), Date.now());
      seen.push(typeof verified === "object" ? verified.admission.publicKey : verified);
      admitted = true;
    }
    socket.terminate();
  }
  assert.deepEqual(seen, keys);
});

test("a revoked device is given none: the answer to its next hello is a refusal and nothing else", LIMIT, async () => {
  const member = await Member.join(bench, "shutout");
  await member.until(() => member.admissions.length === 1);
  assert.equal((await bench.call("POST", "/api/v1/devices/shutout/revoke")).status, 200);
  await member.until(() => member.refused === "device-revoked");
  const { answer } = await greetRaw(bench, "shutout", member.machineKey, member.publicKey);
  assert.equal(answer.type, "refused");
  assert.equal(member.admissions.length, 1);
  await member.leave();
});

test("the admission key lies in a file of mode 0600, and a restart keeps it", LIMIT, async () => {
  const path = join(bench.folder, "admission.key");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const before = bench.coordinator.status().admissionKey;
  const seed = keyBytes(parseKey((await readFile(path, "utf8")).trim()));
  assert.equal(keyOf(ed25519PublicKeyOf(seed)), before);
  await bench.restart();
  const answer = coordinatorStatus.parse((await bench.call("GET", "/api/v1/status")).body);
  assert.equal(answer.admissionKey, before);
});

test(
  "what a device reports of itself reaches its peers: the discovery key always, a home that is no relay never",
  LIMIT,
  async () => {
    const [one, two] = [await Member.join(bench, "one"), await Member.join(bench, "two")];
    const report = { endpoints: [], routes: [], resolvers: [] };
    const discoveryKey = keyOf(systemRandom(32));
    const peer = () => two.map?.peers.find(({ name }) => name === "one");
    await one.say({ type: "report", report: { ...report, discoveryKey, homeRelay: "coordinator" } });
    await two.until(() => peer()?.discoveryKey === discoveryKey && peer()?.homeRelay === "coordinator");
    await one.say({ type: "report", report: { ...report, discoveryKey, homeRelay: "somewhere" } });
    await two.until(() => peer()?.homeRelay === undefined);
    assert.equal(peer()?.discoveryKey, discoveryKey);
    await Promise.all([one.leave(), two.leave()]);
  },
);
