import assert from "node:assert/strict";
import { test } from "node:test";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE } from "../../src/kit/time.js";
import { lockAnswer } from "../../src/wire/agentsocket.js";
import { fingerprintOf, lockSecretHash, readRecord, signDevice, signRecord, standingOf } from "../../src/wire/lock.js";
import type { MapPeer } from "../../src/wire/map.js";
import { HOME, MAP, PHONE, World } from "./agentworld.js";
import { settled } from "./labclock.js";
import {
  attacker,
  FIRST,
  home,
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

/** What a coordinator that was taken over can do to a device that has seen the lock, and what it cannot. */

const SIGNED_PHONE = locked(PHONE, phone, tablet);
const SLIPPED_IN: MapPeer = { ...PHONE, id: "d9", name: "ghost", publicKey: keyOf(hash(utf8("ghost"))) };

test("a device that the coordinator slips in never reaches the data plane, and status says why", async () => {
  const { world, agent, push } = await started(mapOf([SIGNED_HOME, SIGNED_PHONE]));
  assert.deepEqual(world.peers(), ["home", "phone"]);
  const ghosts = [
    SLIPPED_IN,
    locked(SLIPPED_IN, attacker),
    locked(SLIPPED_IN, attacker, attacker),
    // The phone's lock, under keys that the phone never spoke for.
    { ...SLIPPED_IN, lock: SIGNED_PHONE.lock },
  ];
  for (const ghost of ghosts) {
    await push(mapOf([SIGNED_HOME, ghost]));
    assert.deepEqual(world.peers(), ["home"]);
  }
  const { lock } = await agent.status();
  assert.deepEqual(lock?.kept, [{ name: "ghost", why: "other-keys" }]);
  await agent.stop();
});

test("an exit node that is not signed cannot be used, and the answer says what to do", async () => {
  const { agent } = await started(mapOf([locked(HOME, home), SIGNED_PHONE]));
  const answer = await agent.ask({ do: "use", exit: "home" });
  assert.deepEqual((answer as { error?: unknown }).error, {
    code: "exit-unsigned",
    message: 'the device lock does not let "home" in',
    advice: "exitnode lock sign home    (on a trusted device)",
  });
  await agent.stop();
});

test("another key under a signed device's name is shut out at once", async () => {
  const { world, agent, push } = await started(mapOf([SIGNED_HOME, SIGNED_PHONE]));
  await push(mapOf([{ ...SIGNED_HOME, publicKey: SLIPPED_IN.publicKey }, SIGNED_PHONE]));
  assert.deepEqual(world.peers(), ["phone"]);
  await agent.stop();
});

for (const { title, lock } of [
  { title: "says nothing of the lock any more", lock: undefined },
  { title: "forgets its records", lock: { records: [] } },
  {
    title: "makes a lock of its own",
    lock: {
      records: [
        signRecord(attacker, {
          lock: "f".repeat(32),
          version: 9,
          secretHash: lockSecretHash(SECRET),
          shutOut: [],
          keys: [attacker.key],
        }),
      ],
    },
  },
  { title: "trusts its own device", lock: { records: [FIRST, record(attacker, 2, tablet, attacker)] } },
  { title: "ends the lock by another secret", lock: { records: [], ended: [{ lock: LOCK, secret: "0".repeat(32) }] } },
])
  test(`when the coordinator ${title}, the lock holds, also after a restart, and status warns`, async () => {
    const { world, agent, push } = await started(mapOf([SIGNED_HOME]));
    const map = {
      ...MAP,
      peers: [SIGNED_HOME, locked(SLIPPED_IN, attacker, attacker)],
      ...(lock === undefined ? {} : { lock }),
    };
    await push(map);
    assert.deepEqual(world.peers(), ["home"]);
    assert.match((await agent.status()).warnings.join("\n"), /coordinator/);
    await agent.stop();

    world.coordinator.away = true;
    const again = await world.start();
    assert.deepEqual(world.peers(), ["home"]);
    await again.stop();
  });

test("an older list of trusted devices than this device has seen brings nobody back", async () => {
  const second = record(tablet, 2, tablet);
  const { world, agent, push } = await started(mapOf([locked(HOME, home, phone)], [record(tablet, 1, tablet, phone)]));
  assert.deepEqual(world.peers(), ["home"], "signed by the phone, which was trusted then");
  await push(mapOf([locked(HOME, home, phone)], [record(tablet, 1, tablet, phone), second]));
  assert.deepEqual(world.peers(), [], "the phone is not trusted any more");
  await push(mapOf([locked(HOME, home, phone)], [record(tablet, 1, tablet, phone)]));
  assert.deepEqual(world.peers(), []);
  assert.match((await agent.status()).warnings.join("\n"), /version 1\) is older than this device's \(version 2\)/);
  await agent.stop();
});

test("a device that was away follows the records in between, one trusted device after another", async () => {
  const records = [FIRST, record(tablet, 2, tablet, phone), record(phone, 3, phone)];
  const { world, agent, push } = await started(mapOf([SIGNED_HOME]));
  await push(mapOf([locked(HOME, home, phone)], [FIRST, ...records.slice(2)]));
  assert.deepEqual(world.peers(), [], "without the second, nothing proves the third");
  await push(mapOf([locked(HOME, home, phone)], records));
  assert.deepEqual(world.peers(), ["home"]);
  await agent.stop();
});

test("the secret ends the lock for everybody, and a lock made afterwards is another", async () => {
  const { world, agent, push } = await started(mapOf([SIGNED_HOME, SLIPPED_IN]));
  assert.deepEqual(world.peers(), ["home"]);
  await push({ ...MAP, peers: [HOME, PHONE], lock: { records: [], ended: [{ lock: LOCK, secret: SECRET }] } });
  assert.deepEqual(world.peers(), ["home", "phone"]);
  assert.equal((await agent.status()).lock, undefined);
  await agent.stop();
});

test("a signed device's new WireGuard key, which it has spoken for itself, is taken without anybody", async () => {
  const { world, agent, push } = await started(mapOf([SIGNED_HOME]));
  const renewed = { ...HOME, publicKey: keyOf(hash(utf8("home, renewed"))) };
  await push(mapOf([{ ...locked(renewed, home, tablet) }]));
  assert.deepEqual(
    world.backend.want?.peers.map(({ publicKey }) => publicKey),
    [renewed.publicKey],
  );
  await agent.stop();
});

test("a device that nobody has signed says so, with what people compare, and says its lock key at hello", async () => {
  const { world, agent, push } = await started(mapOf([SIGNED_HOME]));
  const hello = world.coordinator.hellos.at(-1);
  const { key } = lockAnswer.parse(valueIn(await agent.ask({ do: "lock" })));
  assert.equal(hello?.lock?.key, key);
  const { waiting, lock } = await agent.status();
  assert.equal(waiting, "lock");
  assert.equal(lock?.fingerprint, fingerprintOf(key));
  await push({ ...mapOf([SIGNED_HOME]), self: { ...MAP.self, lockSignature: signDevice(tablet, LOCK, key) } });
  assert.equal((await agent.status()).waiting, undefined);
  await agent.stop();
});

test("every hello speaks for the keys it brings, also for a new WireGuard key", async () => {
  const { world, agent } = await started(mapOf([SIGNED_HOME]));
  await agent.ask({ do: "rotate" });
  await world.clock.advance(MINUTE);
  const { key } = lockAnswer.parse(valueIn(await agent.ask({ do: "lock" })));
  const trust = readRecord(record(tablet, 2, tablet, { ...attacker, key })) ?? assert.fail("a record of ours");
  const [before, after] = [world.coordinator.hellos.at(0), world.coordinator.hellos.at(-1)];
  assert.notEqual(before?.publicKey, after?.publicKey);
  for (const hello of [before, after]) {
    const { publicKey, report, lock } = hello ?? assert.fail("a hello");
    assert.equal(standingOf(trust, { publicKey, discoveryKey: report.discoveryKey, lock }), "trusted");
  }
  await agent.stop();
});

test("a device that is not trusted signs nothing in the network's lock", async () => {
  const { agent } = await started(mapOf([SIGNED_HOME]));
  const answers = [
    await agent.ask({ do: "lock-sign", lock: LOCK, keys: [attacker.key] }),
    await agent.ask({
      do: "lock-record",
      lock: LOCK,
      version: 2,
      secretHash: lockSecretHash(SECRET),
      shutOut: [],
      keys: [attacker.key],
    }),
  ];
  for (const answer of answers) assert.equal((answer as { error?: { code: string } }).error?.code, "lock-untrusted");
  await agent.stop();
});

test("a device that forgets the lock believes the next one it hears of", async () => {
  const own = signRecord(attacker, {
    lock: "e".repeat(32),
    version: 1,
    secretHash: lockSecretHash(SECRET),
    shutOut: [],
    keys: [attacker.key],
  });
  const { world, agent, push } = await started(mapOf([SIGNED_HOME]));
  await push({ ...MAP, peers: [SIGNED_HOME, locked(SLIPPED_IN, attacker)], lock: { records: [own] } });
  assert.deepEqual(world.peers(), ["home"]);
  await agent.ask({ do: "lock-forget" });
  await settled();
  assert.deepEqual(world.peers(), ["a stranger"]);
  await agent.stop();
});

test("a lock file that says nothing sensible does not open the door", async () => {
  for (const text of ["", "{}", '{"records":["AAAA"]}']) {
    const world = new World();
    world.disk.set("/var/lock.json", text);
    const agent = await world.start();
    await assert.rejects(agent.ended, (error: { code?: string }) => error.code === "lock-invalid", text);
  }
});

const valueIn = (answer: unknown): unknown => (answer as { value?: unknown }).value;
