import assert from "node:assert/strict";
import { test } from "node:test";
import { PROOFS_AT_ONCE_MAX, Proofs } from "../../src/agent/proofs.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { proofOf, proofsOf } from "../../src/wire/lock.js";
import type { MapPeer } from "../../src/wire/map.js";
import { until } from "../engine/patience.js";
import { HOME, PHONE, World } from "./agentworld.js";
import { attacker, FIRST, LOCK, locked, lockKey, mapOf, SIGNED_HOME, started, tablet } from "./lockedworld.js";

const MANY = 200;
const crowd: readonly MapPeer[] = Array.from({ length: MANY }, (_, at) => {
  const name = `device-${at}`;
  return locked({ ...PHONE, id: name, name, publicKey: keyOf(hash(utf8(name))) }, lockKey(name), tablet);
});
const forged = locked(
  { ...PHONE, id: "ghost", name: "ghost", publicKey: keyOf(hash(utf8("ghost"))) },
  attacker,
  attacker,
);

test("other threads come to the same proofs, whatever is wrong with a device", async () => {
  const [one = HOME, another = HOME] = crowd;
  const devices = [
    one,
    forged,
    HOME,
    { ...one, lock: another.lock },
    locked(PHONE, lockKey("unsigned")),
    { ...one, discoveryKey: another.publicKey },
  ];
  const proofs = await proofsOf(LOCK, devices);
  assert.deepEqual(
    proofs.map(({ speaks, by }) => ({ speaks, by })),
    devices.map((device) => proofOf(LOCK, device)).map(({ speaks, by }) => ({ speaks, by })),
  );
  assert.deepEqual(
    proofs.map(({ speaks }) => speaks),
    [true, true, false, false, true, false],
  );
});

test("a crowd is verified while the event loop goes on, and never twice", async () => {
  const proofs = new Proofs();
  let turns = 0;
  let isOver = false;
  const turn = (): void => {
    turns++;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  await proofs.prepare(LOCK, crowd);
  isOver = true;
  // One between two slices, however slow this machine is.
  assert.ok(turns >= Math.ceil(MANY / 64) - 1, `${turns} turns of the event loop meanwhile`);
  assert.equal(proofs.prepare(LOCK, crowd), undefined);
  assert.ok(proofs.of(LOCK, crowd).every(({ speaks, by }) => speaks && by === tablet.key));
  assert.equal(proofs.prepare(LOCK, structuredClone([...crowd])), undefined, "the same in a map that came anew");
  assert.notEqual(proofs.prepare("f".repeat(32), crowd), undefined, "of another lock nothing is known");
});

test("of who has left the map nothing is remembered, and a few are verified at once", async () => {
  const proofs = new Proofs();
  await proofs.prepare(LOCK, crowd);
  proofs.of(LOCK, crowd.slice(0, MANY - PROOFS_AT_ONCE_MAX));
  assert.equal(proofs.prepare(LOCK, crowd), undefined);
  proofs.of(LOCK, crowd.slice(0, MANY - PROOFS_AT_ONCE_MAX - 1));
  assert.notEqual(proofs.prepare(LOCK, crowd), undefined);
});

test("who is revoked while a crowd is still verified is shut out at once, and the crowd comes in afterwards", async () => {
  const world = new World();
  const { agent, push } = await started(mapOf([SIGNED_HOME], [FIRST]), world);
  assert.deepEqual(world.peers(), ["home"]);
  void push(mapOf([SIGNED_HOME, ...crowd]));
  await push(mapOf([...crowd, forged]));
  assert.deepEqual(world.peers(), []);
  const known = new Set(crowd.map(({ publicKey }): string => publicKey));
  const isIn = (): boolean => (world.backend.want?.peers ?? []).length === MANY;
  await until("the crowd is in", isIn);
  assert.ok(world.backend.want?.peers.every(({ publicKey }) => known.has(publicKey)));
  assert.equal(world.peers().length, MANY);
  assert.deepEqual((await agent.status()).lock?.kept, [{ name: "ghost", why: "unsigned" }]);
  await agent.stop();
});
