import assert from "node:assert/strict";
import { test } from "node:test";
import { Atlas } from "../../src/agent/atlas.js";
import { utf8 } from "../../src/kit/bytes.js";
import { ed25519PublicKeyOf, keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { encodeControl, hearFromCoordinator, type ToDevice } from "../../src/wire/control.js";
import { issueSeal, mapDigest, peerHash, sealSeed } from "../../src/wire/seal.js";

const keyFor = (n: number): Key => keyOf(keyPairOf(new Uint8Array(32).fill(n)).publicKey);
const seed = sealSeed(new Uint8Array(32).fill(9));
const sealKey = keyOf(ed25519PublicKeyOf(seed));

const peer = (n: number, more = {}) => ({
  ...{ id: `d${n}`, name: `device-${n}`, role: "device", publicKey: keyFor(n), addresses: [`100.64.0.${n}`] },
  ...{ routes: [], endpoints: [], resolvers: [], online: true },
  ...more,
});
const head = {
  self: { id: "d1", name: "me", role: "device", addresses: ["100.64.0.1"] },
  ranges: ["100.64.0.0/10"],
  mtu: 1280,
  // What a newer coordinator says, and this version does not know.
  weather: { sky: "blue" },
};

function hear(message: unknown): { message: ToDevice; raw: Record<string, unknown> } {
  const heard = hearFromCoordinator(utf8(JSON.stringify(message))) ?? assert.fail("the message is known");
  return { message: heard.message, raw: heard.raw as Record<string, unknown> };
}

function atlasOf(peers: readonly object[], seq = 5): Atlas {
  const atlas = new Atlas();
  const { message, raw } = hear({ type: "map", map: { seq, ...head, peers } });
  assert.ok(message.type === "map");
  atlas.whole(message.map, raw.map);
  return atlas;
}

function turn(atlas: Atlas, delta: object) {
  const { message, raw } = hear({ type: "delta", delta });
  assert.ok(message.type === "delta");
  return atlas.delta(message.delta, raw.delta);
}

/** As the coordinator seals: over the texts it has sent. */
function sealOf(seq: number, peers: readonly object[], parts: object = head) {
  const texts = new Map(Object.entries(parts).map(([name, value]) => [name, JSON.stringify(value)]));
  const digest = mapDigest(
    texts,
    peers.map((one) => peerHash(JSON.stringify(one))),
  );
  return issueSeal(seed, seq, digest, 1_700_000_000_000);
}

test("a delta removes, replaces and adds peers, changes the head, and says who is gone", () => {
  const atlas = atlasOf([peer(2), peer(3)]);
  const moved = peer(3, { endpoints: ["203.0.113.9:1"] });
  const result = turn(atlas, {
    ...{ base: 5, seq: 6, removed: ["d2", "never-known"], set: [moved, peer(4)] },
    ...{ head: { mtu: 1380, whoami: ["https://a.example"] }, cleared: ["weather"] },
  });
  assert.deepEqual(
    result?.map.peers.map(({ id, endpoints }) => [id, endpoints.length]),
    [
      ["d3", 1],
      ["d4", 0],
    ],
  );
  assert.deepEqual(
    result.gone.map(({ id }) => id),
    ["d2"],
  );
  assert.equal(result.map.seq, 6);
  assert.equal(result.map.mtu, 1380);
  assert.ok(
    atlas.sealed(
      sealOf(6, [moved, peer(4)], { self: head.self, ranges: head.ranges, mtu: 1380, whoami: ["https://a.example"] }),
      sealKey,
    ),
  );
});

test("a delta that does not follow on the map changes nothing", () => {
  const atlas = atlasOf([peer(2)]);
  assert.equal(turn(atlas, { base: 4, seq: 5, removed: ["d2"] }), undefined);
  assert.equal(turn(new Atlas(), { base: 5, seq: 6 }), undefined);
  assert.equal(atlas.map?.peers.length, 1);
});

test("a whole map after another says who is gone, too", () => {
  const atlas = atlasOf([peer(2), peer(3)]);
  const { message, raw } = hear({ type: "map", map: { seq: 9, ...head, peers: [peer(3)] } });
  assert.ok(message.type === "map");
  assert.deepEqual(
    atlas.whole(message.map, raw.map).gone.map(({ id }) => id),
    ["d2"],
  );
});

test("a sealed map comes back from its file, parts included that this version does not know, whenever that is", () => {
  const peers = [peer(2, { colour: "red" }), peer(3)];
  const atlas = atlasOf(peers);
  assert.ok(atlas.sealed(sealOf(5, peers), sealKey));
  const back = new Atlas();
  assert.equal(back.recall(JSON.parse(atlas.file() ?? ""), sealKey), "taken");
  assert.deepEqual(back.map, atlas.map);
  assert.ok(back.file()?.includes('"colour":"red"'));
});

for (const [what, alter] of [
  ["another key for a peer", (file: string) => file.replace(keyFor(2), keyFor(7))],
  ["one peer more", (file: string) => file.replace('"peers":[', `"peers":[${JSON.stringify(peer(8))},`)],
  ["a peer left out", (file: string) => file.replace(`,${JSON.stringify(peer(3))}`, "")],
  ["another range", (file: string) => file.replace("100.64.0.0/10", "100.0.0.0/8")],
  ["another number", (file: string) => file.replace('"seq":5', '"seq":6')],
  ["no seal", (file: string) => file.replace(/,"seal":.*\}\}?/, "}")],
  ["half a file", (file: string) => file.slice(0, 40)],
] as const)
  test(`a map on disk with ${what} is refused, and without a coordinator's key it would have been taken or not parse`, () => {
    const peers = [peer(2), peer(3)];
    const atlas = atlasOf(peers);
    assert.ok(atlas.sealed(sealOf(5, peers), sealKey));
    const file = alter(atlas.file() ?? "");
    assert.notEqual(file, atlas.file());
    let value: unknown = null;
    try {
      value = JSON.parse(file);
    } catch {
      // what the file's reader makes of it
    }
    const back = new Atlas();
    assert.equal(back.recall(value, sealKey), "altered");
    assert.equal(back.map, undefined);
  });

test("a seal of another map, another key, or an older state does not count", () => {
  const peers = [peer(2)];
  const atlas = atlasOf(peers);
  assert.equal(atlas.sealed(sealOf(5, [peer(3)]), sealKey), false);
  assert.equal(atlas.sealed(sealOf(5, peers), keyFor(3)), false);
  assert.equal(atlas.sealed(sealOf(4, peers), sealKey), false);
});

test("the control channel knows the seal it sends", () => {
  const seal = sealOf(5, []);
  assert.deepEqual(hearFromCoordinator(encodeControl({ type: "seal", seal }))?.message, { type: "seal", seal });
});
