import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device } from "../../src/coordinator/device.js";
import { Ledger, NOTED_MAX } from "../../src/coordinator/ledger.js";
import { PeerPairs } from "../../src/coordinator/peerpairs.js";
import { Visibility } from "../../src/coordinator/visibility.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import type { Key } from "../../src/kit/key.js";

const BASE = 1_000;
const deviceOf = (id: string, more: Partial<Device> = {}): Device => ({
  ...{ id, name: id, wantedName: id, role: "device", agentVersion: "t", createdAtMs: 0, approvedAtMs: 0 },
  ...{ machineKey: `m-${id}` as Key, publicKey: `p-${id}` as Key, userId: "u" },
  ...{ ipv4: "100.64.0.1" as Ip, ipv6: "fd00::1" as Ip, tags: [], ephemeral: false, approvedRoutes: [] },
  report: { endpoints: [], routes: [] as Cidr[], resolvers: [] },
  ...more,
});

/** People's devices, all connected and with nothing left to hear. */
function world(owners: Record<string, string>) {
  const devices = new Map(Object.entries(owners).map(([id, userId]) => [id, deviceOf(id, { userId })]));
  const ledger = new Ledger({ devices, visibility: new Visibility({ devices, wall: () => 1 }), seqBase: BASE });
  const deliver = (id: string) => {
    const news = ledger.take(id);
    if (news !== undefined) ledger.told(id, news.seq);
    return news;
  };
  for (const id of devices.keys()) {
    ledger.open(id, undefined);
    ledger.change(id);
  }
  for (const id of devices.keys()) deliver(id);
  return { devices, ledger, deliver };
}

test("a change concerns the device and those who know it, and nobody else has anything to hear", () => {
  const { ledger, deliver } = world({ a1: "a", a2: "a", b1: "b", b2: "b" });
  assert.deepEqual(ledger.change("a1").sort(), ["a1", "a2"]);
  assert.equal(deliver("b1"), undefined);
  assert.equal(deliver("b2"), undefined);
  const news = deliver("a2");
  assert.ok(news?.kind === "delta");
  assert.deepEqual(
    news.set.map(({ id }) => id),
    ["a1"],
  );
  assert.equal(news.head, false, "where a device is reached is nothing to anybody's rules");
});

test("what changes before a device's turn is one piece of news with one number", () => {
  const { devices, ledger, deliver } = world({ a1: "a", a2: "a", a3: "a" });
  const seq = ledger.seqOf("a3");
  ledger.change("a1");
  ledger.change("a1");
  ledger.change("a2");
  devices.set("a2", deviceOf("a2", { userId: "a", revokedAtMs: 1 }));
  ledger.change("a2");
  const news = deliver("a3");
  assert.ok(news?.kind === "delta");
  assert.deepEqual([news.base, news.seq], [seq, seq + 1]);
  assert.deepEqual(
    news.set.map(({ id }) => id),
    ["a1"],
  );
  assert.deepEqual(news.removed, ["a2"]);
  assert.equal(deliver("a3"), undefined);
});

test("a device that changes hands is told to its old and its new peers, and gets all of its own anew", () => {
  const { devices, ledger, deliver } = world({ a1: "a", a2: "a", b1: "b" });
  devices.set("a2", deviceOf("a2", { userId: "b" }));
  ledger.change("a2");
  const [old, fresh, own] = [deliver("a1"), deliver("b1"), deliver("a2")];
  assert.ok(old?.kind === "delta" && fresh?.kind === "delta" && own?.kind === "whole");
  assert.deepEqual(old.removed, ["a2"]);
  assert.deepEqual(
    fresh.set.map(({ id }) => id),
    ["a2"],
  );
  assert.deepEqual(
    own.peers.map(({ id }) => id),
    ["b1"],
  );
  assert.ok(old.head && fresh.head, "rules and names may follow from it");
});

test("who comes back with the last number hears what was missed, and with any other everything", () => {
  const { ledger, deliver } = world({ a1: "a", a2: "a", a3: "a" });
  const seq = ledger.seqOf("a3");
  ledger.change("a1");
  ledger.open("a3", seq);
  assert.equal(deliver("a3")?.kind, "delta");
  ledger.open("a3", seq);
  assert.equal(deliver("a3")?.kind, "whole", "it has not got the last news");
  ledger.open("a3", undefined);
  assert.equal(deliver("a3")?.kind, "whole");
});

test("of a device that was away for long no more is noted than a whole map holds", () => {
  const many = Object.fromEntries(Array.from({ length: NOTED_MAX + 50 }, (_, n) => [`d${n}`, "a"]));
  const { ledger, deliver } = world(many);
  for (const id of Object.keys(many).slice(1)) ledger.change(id);
  assert.equal(deliver("d0")?.kind, "whole");
});

test("two devices are peers both ways, and the place of a device that is gone carries nothing over", () => {
  const pairs = new PeerPairs();
  for (let n = 0; n < 100; n++) pairs.add("hub", `d${n}`);
  pairs.remove("d7", "hub");
  assert.equal(pairs.has("hub", "d7") || pairs.has("d7", "hub"), false);
  assert.equal(pairs.has("d8", "hub"), true);
  assert.equal(pairs.of("hub").length, 99);
  pairs.forget("d8");
  pairs.add("new", "d9");
  assert.equal(pairs.has("new", "hub"), false);
  assert.equal(pairs.of("hub").length, 98);
});
