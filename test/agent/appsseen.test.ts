import assert from "node:assert/strict";
import { test } from "node:test";
import { AppsSeen, TOLD_AGAIN_MS } from "../../src/agent/appsseen.js";
import { APPS_TOLD_MAX } from "../../src/wire/control.js";
import type { MapPeer } from "../../src/wire/map.js";
import type { InterfaceState } from "../../src/wireguard/interface.js";
import { HOME, PHONE } from "./agentworld.js";

const APP: MapPeer = { ...PHONE, app: true };
const NOW = 1_000_000_000;
/** As WireGuard tells it: the age of each peer's last handshake, by its public key. */
const state = (...ages: (readonly [MapPeer["publicKey"], number | undefined])[]): InterfaceState => ({
  ...{ name: "exn0", listenPort: 51_820, warnings: [] },
  peers: ages.map(([publicKey, age]) => ({
    ...{ publicKey, receivedBytes: 0, sentBytes: 0 },
    ...(age === undefined ? {} : { lastHandshakeAgeMs: age }),
  })),
});

test("an app that comes is news at once, its next handshakes are none for a while, and no agent is ever told of", () => {
  const apps = new AppsSeen();
  const both = [HOME, APP];
  const at = (age: number | undefined, wall: number) =>
    apps.observe(state([APP.publicKey, age], [HOME.publicKey, 5]), both, wall);
  assert.equal(at(undefined, NOW), false);
  assert.equal(at(100, NOW), true);
  assert.deepEqual(apps.told, [{ id: APP.id, atMs: NOW - 100 }]);
  assert.equal(at(0, NOW + TOLD_AGAIN_MS - 1_000), false);
  assert.equal(at(0, NOW + TOLD_AGAIN_MS), true);
  assert.equal(at(undefined, NOW + TOLD_AGAIN_MS), false, "what was told stands");
  assert.equal(apps.observe(state(), [HOME], NOW), true, "it is no peer any more");
  assert.deepEqual(apps.told, []);
});

test("of more apps than a report holds, those that came last are told of", () => {
  const apps = new AppsSeen();
  const many = Array.from({ length: APPS_TOLD_MAX + 1 }, (_, i): MapPeer => {
    const publicKey = `${i}` as MapPeer["publicKey"];
    return { ...APP, id: `d${i}`, publicKey };
  });
  apps.observe(state(...many.map(({ publicKey }, i) => [publicKey, i] as const)), many, NOW);
  assert.equal(apps.told.length, APPS_TOLD_MAX);
  assert.equal(apps.told[0]?.id, "d0");
  assert.ok(!apps.told.some(({ id }) => id === `d${APPS_TOLD_MAX}`));
});
