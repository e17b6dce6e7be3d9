import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { CALLS_WAITING_MAX } from "../../src/coordinator/link.js";
import { MESSAGES_BURST, MESSAGES_PER_SECOND } from "../../src/coordinator/reception.js";
import { toBase64 } from "../../src/kit/bytes.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { coordinatorStatus } from "../../src/wire/adminapi.js";
import { type Bench, openBench } from "./bench.js";
import { Member } from "./member.js";

const LIMIT = { timeout: 120_000 };
let bench: Bench;
before(async () => {
  bench = await openBench();
});
after(() => bench.close());

const probe = (): string => toBase64(systemRandom(120));

test("a call reaches the holder of the key and nobody else, with the caller's key on it", LIMIT, async () => {
  const [caller, called, third] = await Promise.all(
    ["caller", "called", "third"].map((name) => Member.join(bench, name)),
  );
  if (caller === undefined || called === undefined || third === undefined) throw new Error("three joined");
  const said = probe();
  await caller.say({ type: "call", to: called.publicKey, probe: said });
  await called.until(() => called.calls.length > 0);
  assert.deepEqual(called.calls, [{ from: caller.publicKey, probe: said }]);
  await third.settled();
  assert.deepEqual([third.calls, caller.calls], [[], []]);
  await Promise.all([caller.leave(), called.leave(), third.leave()]);
});

test("calls to a stranger, to oneself, to one who left and to one who was revoked go nowhere", LIMIT, async () => {
  const [caller, gone, revoked] = await Promise.all(
    ["asker", "gone", "revoked"].map((name) => Member.join(bench, name)),
  );
  if (caller === undefined || gone === undefined || revoked === undefined) throw new Error("three joined");
  await gone.leave();
  await caller.until(() => caller.map?.peers.find(({ name }) => name === "gone")?.online === false);
  await bench.call("POST", "/api/v1/devices/revoked/revoke");
  const before = bench.coordinator.status();
  for (const to of [keyOf(systemRandom(32)), caller.publicKey, gone.publicKey, revoked.publicKey])
    await caller.say({ type: "call", to, probe: probe() });
  await caller.settled();
  assert.deepEqual([gone.calls, revoked.calls, caller.calls], [[], [], []]);
  assert.equal(bench.coordinator.status().forwardedCalls, before.forwardedCalls);
  await Promise.all([caller.leave(), revoked.leave()]);
});

test("who calls without end is cut off by the allowance of every other message", LIMIT, async () => {
  const [noisy, quiet] = [await Member.join(bench, "noisy"), await Member.join(bench, "quiet")];
  const before = bench.coordinator.status().forwardedCalls;
  const startedAt = performance.now();
  const call = (): Promise<boolean> =>
    noisy.say({ type: "call", to: quiet.publicKey, probe: probe() }).then(
      () => true,
      () => false,
    );
  // The coordinator, which is in this process, has its turn after each.
  while (await call()) await turn();
  await quiet.until(() => quiet.map?.peers.find(({ name }) => name === "noisy")?.online === false);
  const allowed = MESSAGES_BURST + (MESSAGES_PER_SECOND * (performance.now() - startedAt)) / 1_000;
  const handed = bench.coordinator.status().forwardedCalls - before;
  assert.ok(handed <= allowed && handed >= CALLS_WAITING_MAX, `${handed} were handed on, of ${allowed} that may be`);
  await Promise.all([noisy.leave(), quiet.leave()]);
});

test(
  "the status counts calls and their bytes, and a call costs its receiver little more than itself",
  LIMIT,
  async () => {
    const [one, two] = [await Member.join(bench, "one"), await Member.join(bench, "two")];
    await two.until(() => two.map?.peers.some(({ name, online }) => name === "one" && online) === true);
    await two.settled();
    const before = coordinatorStatus.parse((await bench.call("GET", "/api/v1/status")).body);
    const heard = two.heardBytes;
    for (let n = 0; n < 10; n++) await one.say({ type: "call", to: two.publicKey, probe: probe() });
    await two.until(() => two.calls.length === 10);
    const after = coordinatorStatus.parse((await bench.call("GET", "/api/v1/status")).body);
    assert.equal(after.forwardedCalls - before.forwardedCalls, 10);
    assert.equal(after.forwardedCallBytes - before.forwardedCallBytes, 10 * probe().length);
    const each = (two.heardBytes - heard) / 10;
    assert.ok(each < probe().length + 140, `${each} bytes for a probe of ${probe().length} characters`);
    await Promise.all([one.leave(), two.leave()]);
  },
);
