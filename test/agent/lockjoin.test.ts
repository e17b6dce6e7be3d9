import assert from "node:assert/strict";
import { test } from "node:test";
import { Lock } from "../../src/agent/lock.js";
import { tryJson } from "../../src/kit/json.js";
import { keyBytes, keyOf } from "../../src/kit/key.js";
import { type AgentStatus, lockAnswer } from "../../src/wire/agentsocket.js";
import { encodeJoinKey } from "../../src/wire/joinkey.js";
import { fingerprintOf, lockKeyOf, lockSecretHash, type MapLock, signRecord } from "../../src/wire/lock.js";
import type { NetworkMap } from "../../src/wire/map.js";
import { HOME, MAP, PHONE, type Running, World } from "./agentworld.js";
import { settled } from "./labclock.js";
import {
  attacker,
  FIRST,
  LOCK,
  locked,
  mapOf,
  phone,
  record,
  SECRET,
  SIGNED_HOME,
  started,
  tablet,
} from "./lockedworld.js";

/** What a new device believes of the device lock: its join key, and of the coordinator what that key vouches for. */

const OTHER_LOCK = "f".repeat(32);
const otherLock = signRecord(attacker, {
  ...{ lock: OTHER_LOCK, version: 9, secretHash: lockSecretHash(SECRET), shutOut: [] },
  keys: [attacker.key],
});
const SECOND = record(tablet, 2, tablet, phone);
const slippedIn = locked({ ...PHONE, id: "d9", name: "ghost" }, attacker, attacker);

function bringKey(world: World, lockRecord?: string): void {
  const { publicKey: coordinatorKey } = world.coordinator;
  const key = { coordinatorKey, urls: ["https://203.0.113.7"], secret: "s".repeat(43) };
  world.disk.set(
    "/var/join.key",
    encodeJoinKey({ ...key, ...(lockRecord === undefined ? {} : { record: lockRecord }) }),
  );
}

async function joined(map: NetworkMap, lockRecord?: string): Promise<{ world: World; agent: Running }> {
  const world = new World();
  bringKey(world, lockRecord);
  return started(map, world);
}

const lockOf = async (agent: Running) =>
  lockAnswer.parse(((await agent.ask({ do: "lock" })) as { value?: unknown }).value);
const refusalIn = ({ coordinator }: AgentStatus): string | undefined => coordinator.refusal;

for (const { title, shown, records } of [
  { title: "the very list of its join key", shown: [FIRST], records: [FIRST] },
  { title: "the list that followed on it", shown: [FIRST, SECOND], records: [FIRST, SECOND] },
  { title: "a later list alone, the ones before being forgotten", shown: [SECOND], records: [FIRST, SECOND] },
  {
    title: "lists that one device after another has signed",
    shown: [SECOND, record(phone, 7, phone)],
    records: [FIRST, SECOND, record(phone, 7, phone)],
  },
])
  test(`a new device is shown ${title}, and believes nothing unverified`, async () => {
    const { world, agent } = await joined(mapOf([locked(HOME, phone), SIGNED_HOME, slippedIn], shown), FIRST);
    assert.ok(!world.peers().includes("a stranger") && !world.peers().includes("phone"));
    const { records: held, believed, trouble } = await lockOf(agent);
    assert.deepEqual({ held, believed, trouble }, { held: records, believed: undefined, trouble: undefined });
    assert.equal(refusalIn(await agent.status()), undefined);
    assert.equal((tryJson(world.disk.get("/var/lock.json") ?? "") as { origin?: string }).origin, "proven");
    await agent.stop();
  });

const shows: readonly { title: string; key?: string; lock: MapLock | undefined; words: RegExp }[] = [
  { title: "no lock at all", lock: undefined, words: /shows no device lock$/ },
  { title: "no records", lock: { records: [] }, words: /shows no device lock$/ },
  {
    title: "a lock of its own",
    lock: { records: [otherLock] },
    words: /a list that none of these has signed: .* \(version 9\)$/,
  },
  {
    title: "a successor that no trusted device has signed",
    lock: { records: [FIRST, record(attacker, 2, tablet, attacker)] },
    words: /none of these has signed: .*, .* \(version 2\)$/,
  },
  {
    title: "another list of the same version",
    lock: { records: [record(attacker, 1, attacker)] },
    words: /none of these has signed/,
  },
  {
    title: "an older list",
    key: SECOND,
    lock: { records: [FIRST] },
    words: /shows an older list than that: .* \(version 1\)$/,
  },
  {
    title: "an end of the lock by another secret",
    lock: { records: [], ended: [{ lock: LOCK, secret: "0".repeat(32) }] },
    words: /shows no device lock$/,
  },
  {
    title: "the end of that lock, and a new one",
    lock: { records: [otherLock], ended: [{ lock: LOCK, secret: SECRET }] },
    words: /none of these has signed/,
  },
];
for (const { title, key = FIRST, lock, words } of shows)
  test(`a new device does not join where the coordinator shows ${title}`, async () => {
    const map = { ...MAP, peers: [HOME, slippedIn], ...(lock === undefined ? {} : { lock }) };
    const { world, agent } = await joined(map, key);
    const { coordinator, peers } = await agent.status();
    assert.equal(coordinator.refusal, "lock-differs");
    assert.match(coordinator.reason ?? "", words);
    assert.match(coordinator.reason ?? "", new RegExp(`names the trusted devices .*${fingerprintOf(tablet.key)}`));
    assert.deepEqual([world.peers(), peers, world.disk.has("/var/map.json")], [[], [], false]);
    const { dials } = world.coordinator;
    await world.clock.advance(60_000);
    assert.equal(world.coordinator.dials, dials, "it does not try again by itself");
    world.coordinator.push(mapOf([SIGNED_HOME], [FIRST, SECOND]));
    await settled();
    assert.deepEqual(world.peers(), [], "nor does it listen any longer");
    world.coordinator.map = map;
    await agent.stop();

    // A machine that was killed in between begins where it was.
    const again = await world.start();
    assert.equal(refusalIn(await again.status()), "lock-differs");
    assert.deepEqual(world.peers(), []);
    await again.stop();
    world.coordinator.map = mapOf([SIGNED_HOME], [FIRST, SECOND]);
    const right = await world.start();
    assert.deepEqual(world.peers(), ["home"]);
    await right.stop();
  });

test("a lock that its secret has ended since the key was made is no obstacle", async () => {
  const lock = { records: [], ended: [{ lock: LOCK, secret: SECRET }] };
  const { world, agent } = await joined({ ...MAP, lock }, FIRST);
  assert.deepEqual(world.peers(), ["home", "phone"]);
  await agent.stop();
});

test("what a coordinator that is away would say is not waited for: the key's list holds from the start", async () => {
  const world = new World();
  bringKey(world, FIRST);
  world.coordinator.away = true;
  const agent = await world.start();
  assert.deepEqual((await lockOf(agent)).records, [FIRST]);
  await agent.stop();
});

test("without a list in its key a device believes the first, and says so also after a restart", async () => {
  const { world, agent } = await joined(mapOf([SIGNED_HOME]));
  assert.equal((await lockOf(agent)).believed, true);
  await agent.stop();
  const again = await world.start();
  assert.equal((await lockOf(again)).believed, true);
  await again.stop();
});

test("the device that has begun the lock itself need not believe anybody", async () => {
  const world = new World();
  const seed = keyOf(new Uint8Array(32).fill(7));
  world.disk.set("/var/lock.key", seed);
  const own = lockKeyOf(keyBytes(seed));
  const { agent } = await started(mapOf([], [record(own, 1, own)]), world);
  assert.equal((await lockOf(agent)).believed, undefined);
  await agent.stop();
});

test("a later key with the list proves what a device had believed, and takes nothing newer from it", async () => {
  const { world, agent } = await joined(mapOf([SIGNED_HOME], [FIRST, SECOND]));
  await agent.stop();
  bringKey(world, FIRST);
  const again = await world.start();
  const { records, believed } = await lockOf(again);
  assert.deepEqual({ records, believed }, { records: [FIRST, SECOND], believed: undefined });
  assert.deepEqual(world.peers(), ["home"]);
  await again.stop();
});

test("a later key with another list than a device had believed sets it against the coordinator", async () => {
  const { world, agent } = await joined(mapOf([slippedIn], [otherLock]));
  assert.deepEqual(world.peers(), ["phone"]);
  await agent.stop();
  bringKey(world, FIRST);
  const again = await world.start();
  assert.equal(refusalIn(await again.status()), "lock-differs");
  assert.deepEqual(world.peers(), []);
  await again.stop();
});

test("a key older than every list that is left here leaves a proven list, and replaces a believed one", async () => {
  const records = [record(phone, 17, phone), record(phone, 18, phone)];
  for (const [origin, held] of [
    ["proven", records],
    ["believed", [FIRST]],
  ] as const) {
    const lock = new Lock({ records, origin }, async () => undefined);
    await lock.bring(FIRST);
    assert.deepEqual(lock.records, held);
  }
});
