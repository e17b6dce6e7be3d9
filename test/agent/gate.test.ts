import assert from "node:assert/strict";
import { test } from "node:test";
import { Gate } from "../../src/agent/gate.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Ip } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import type { MapPeer } from "../../src/wire/map.js";
import type { Backend, WantInterface } from "../../src/wireguard/interface.js";

const keyFor = (n: number): Key => keyOf(keyPairOf(new Uint8Array(32).fill(n)).publicKey);
const peer = (n: number): MapPeer => ({
  ...{ id: `d${n}`, name: `device-${n}`, role: "device", publicKey: keyFor(n), addresses: [`100.64.0.${n}` as Ip] },
  ...{ routes: [], endpoints: [], resolvers: [], online: true },
});
const wantOf = (...keys: number[]): WantInterface => ({
  ...{ name: "exn0", privateKey: keyFor(99), listenPort: 1, mtu: 1280, fwmark: 0 },
  peers: keys.map((n) => ({ publicKey: keyFor(n), allowedIps: [], persistentKeepaliveSeconds: 0 })),
});

class Plane implements Backend {
  readonly kind = "userspace";
  readonly sets: Key[][] = [];
  async set(want: WantInterface): Promise<void> {
    this.sets.push(want.peers.map(({ publicKey }) => publicKey));
  }
  async state(): Promise<never> {
    throw new Error("not asked for");
  }
  async point(): Promise<void> {}
  async close(): Promise<void> {}
}

test("a peer that is expelled leaves the data plane at once, and its flows are forgotten", async () => {
  const plane = new Plane();
  const forgotten: Ip[] = [];
  const gate = new Gate(plane, (addresses) => forgotten.push(...addresses));
  await gate.set(wantOf(2, 3));
  await gate.expel([peer(2)]);
  assert.deepEqual(plane.sets.at(-1), [keyFor(3)]);
  assert.deepEqual(forgotten, ["100.64.0.2"]);
});

test("what was worked out from an older map does not bring an expelled peer back; a newer map does", async () => {
  const plane = new Plane();
  const gate = new Gate(plane);
  await gate.set(wantOf(2, 3));
  await gate.expel([peer(2)]);
  await gate.set(wantOf(2, 3));
  assert.deepEqual(plane.sets.at(-1), [keyFor(3)]);
  gate.admit([peer(2), peer(3)]);
  await gate.set(wantOf(2, 3));
  assert.deepEqual(plane.sets.at(-1), [keyFor(2), keyFor(3)]);
});

test("a data plane that cannot expel says so: nothing is confirmed that is not in force", async () => {
  const plane = new Plane();
  const gate = new Gate(plane);
  await gate.set(wantOf(2));
  plane.set = async () => {
    throw new Error("no such device");
  };
  await assert.rejects(gate.expel([peer(2)]), /no such device/);
});
