import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Actor } from "../../src/coordinator/actor.js";
import { Names } from "../../src/coordinator/names.js";
import { Newest } from "../../src/coordinator/newest.js";
import { Relays } from "../../src/coordinator/relays.js";
import type { Store } from "../../src/coordinator/store/store.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";
import { systemRandom } from "../../src/sys/random.js";
import type { RemoteRelay } from "../../src/wire/coordinatorconfig.js";
import { type Opened, startEngines } from "./engines.js";

/** Relays that are added and removed at several coordinators of one store at the same time. */
const BY: Actor = { name: "admin-token", remote: "192.0.2.1" };
const ADDRESSES = ["192.168.1.9" as Ip];
let started: Awaited<ReturnType<typeof startEngines>>;
before(async () => {
  started = await startEngines();
});
after(() => started.close());

const open = (store: Store, configured: readonly RemoteRelay[] = []): Promise<Relays> =>
  Relays.open({
    ...{ own: undefined, urls: ["https://coordinator.example"], configured, store },
    ...{ signingKey: systemRandom(32), https: openHttps(), clock: systemClock, random: systemRandom },
  });
const relay = (name: string, port = 443): RemoteRelay => ({
  ...{ name, url: `https://${name}.example:${port}`, stunPort: 3478 },
  relayKey: keyOf(keyPairOf(systemRandom(32)).publicKey),
});
const namesOf = (relays: Relays): string[] => relays.map.map(({ name }) => name).sort();
const opened = async (use: (store: Store) => Promise<void>): Promise<void> => {
  for (const engine of started.engines) {
    const at: Opened = await engine.open();
    await use(at.store).finally(() => at.end());
  }
};

test("relays that are added at two coordinators at once are both there, at both", () =>
  opened(async (store) => {
    const [one, other] = [await open(store), await open(store)];
    assert.deepEqual(await Promise.all([one.add(relay("ams"), BY), other.add(relay("fra"), BY)]), [true, true]);
    await Promise.all([one, other].map((relays) => relays.reread(store.view)));
    for (const relays of [one, other]) assert.deepEqual(namesOf(relays), ["ams", "fra"]);
  }));

test("the same relay kept by two coordinators is one record and one entry of the log, however often they say it", () =>
  opened(async (store) => {
    const [one, other] = [await open(store), await open(store)];
    const same = relay("ams");
    const told = await Promise.all([one, other, one, other].map((relays) => relays.add(same, BY)));
    assert.equal(told.filter((changed) => changed).length, 1);
    const before = one.map;
    assert.equal(await one.reread(store.view), false, "nothing is new");
    assert.equal(one.map, before, "and devices are told nothing");
    const noted = await store.view.audit.list({ limit: 10 });
    assert.deepEqual(
      noted.map(({ action }) => action),
      ["relay.add"],
    );
  }));

test("a relay removed at one coordinator does not come back by what the other adds", () =>
  opened(async (store) => {
    const [one, other] = [await open(store), await open(store)];
    await one.add(relay("old"), BY);
    await other.reread(store.view);
    await one.remove("old", BY);
    await other.add(relay("new"), BY);
    await one.reread(store.view);
    for (const relays of [one, other]) assert.deepEqual(namesOf(relays), ["new"]);
    await assert.rejects(other.remove("old", BY), { code: "relay-unknown" });
  }));

test("a relay of the coordinator's own file is neither added over nor removed, and the same one is no change", () =>
  opened(async (store) => {
    const own = relay("ams");
    const relays = await open(store, [own]);
    assert.equal(await relays.add(own, BY), false);
    await assert.rejects(relays.add(relay("ams"), BY), { code: "relay-configured" });
    await assert.rejects(relays.remove("ams", BY), { code: "relay-configured" });
  }));

test("names that two coordinators set at once are both there", () =>
  opened(async (store) => {
    const parts = { store, wall: () => 1 };
    const [one, other] = [await Names.open(parts), await Names.open(parts)];
    await Promise.all([one.setRecord("nas", ADDRESSES, BY), other.setRecord("tv", ADDRESSES, BY)]);
    await Promise.all([one, other].map((names) => names.reread(store.view)));
    for (const { map } of [one, other])
      assert.deepEqual(
        map.records.map(({ name }) => name),
        ["nas", "tv"],
      );
  }));

test("of two reads under way at once the later one counts, whichever ends first", async () => {
  const newest = new Newest();
  let endOld: (value: string) => void = () => undefined;
  const old = newest.read(
    () =>
      new Promise<string>((resolve) => {
        endOld = resolve;
      }),
  );
  assert.equal(await newest.read(async () => "new"), "new");
  endOld("old");
  assert.equal(await old, undefined);
  assert.equal(await newest.read(async () => "newer"), "newer");
});
