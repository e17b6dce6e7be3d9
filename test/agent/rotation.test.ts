import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ROTATIONS_APART_MS, Rotation } from "../../src/agent/rotation.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { type Key, keyBytes, keyOf } from "../../src/kit/key.js";
import { until } from "../engine/patience.js";
import { must, pings } from "../engine/places.js";
import { lostWhile } from "../vm/lostwhile.js";
import { Pace } from "./pace.js";
import { MIDDLES, PathsWorld, type PlacedAgent } from "./pathsworld.js";

/** What a change of the WireGuard key may cost: an interface has one private key, and the peers hear of it by a map. */
const GAP_MAX_MS = 1_000;
const PING_EVERY_MS = 50;
const pace = new Pace();

for (const { how, prefix, nat, path, dataPlane } of [
  { how: "direct", prefix: "exn-ky-d", nat: "easy", path: "direct", dataPlane: "userspace" },
  { how: "relayed", prefix: "exn-ky-r", nat: "hard", path: "relayed", dataPlane: "userspace" },
  {
    how: "direct, by WireGuard that is not our own",
    prefix: "exn-ky-k",
    nat: "easy",
    path: "direct",
    dataPlane: "kernel",
  },
  {
    how: "relayed, by WireGuard that is not our own",
    prefix: "exn-ky-q",
    nat: "hard",
    path: "relayed",
    dataPlane: "kernel",
  },
] as const)
  describe(`two agents, ${how}, of which one changes its WireGuard key`, () => {
    const world = new PathsWorld(prefix);
    const agents: Partial<Record<"laptop" | "home", PlacedAgent>> = {};
    let address = "";

    before(async () => {
      await world.open();
      await Promise.all([world.nat("a", nat), world.nat("b", nat)]);
      const laptop = await world.agent("a", "laptop", { interface: `exnky${prefix.slice(-1)}a`, dataPlane });
      // Of two, one is enough to be what is not ours.
      agents.home = await world.agent("b", "home", { interface: `exnky${prefix.slice(-1)}b` });
      agents.laptop = laptop;
      await until("the exit node is there", async () => (await laptop.peer("home"))?.online === true);
      address = (await laptop.peer("home"))?.addresses[0] ?? "";
      // For a path that nobody uses nothing is done.
      const isAnswered = () => pings(laptop.place, address, "-W", "1");
      await until(path, async () => (await isAnswered()) && (await laptop.peer("home"))?.path === path);
    });
    after(() => world.close());

    for (const { who, by, title } of [
      { who: "home", by: "hand", title: "the one that is called loses a second at most" },
      { who: "laptop", by: "hand", title: "the one that calls loses a second at most" },
      { who: "home", by: "time", title: "when the coordinator wants it, nobody has to ask" },
    ] as const)
      test(title, async (t) => {
        const { [who]: rotating, laptop } = agents;
        assert.ok(rotating !== undefined && laptop !== undefined);
        const { publicKey } = await rotating.status();
        pace.begin();
        const { came, lost } = await lostWhile(laptop.place, address, String(PING_EVERY_MS / 1_000), async () => {
          if (by === "hand") await rotating.ask({ do: "rotate" });
          else world.rotate(who);
          await until("another key is in use", async () => (await rotating.status()).publicKey !== publicKey);
        });
        t.diagnostic(`${came} answers, ${lost.length} lost: ${lost.length * PING_EVERY_MS} ms`);
        assert.ok(lost.length * PING_EVERY_MS <= pace.allows(GAP_MAX_MS), `${lost.length} lost of ${came}`);
        assert.equal((await laptop.peer("home"))?.path, path);
      });

    // Its agent runs as root where WireGuard is not our own, and root's sockets do not keep out of the tunnel.
    if (dataPlane === "userspace")
      test("what goes through the exit node loses a second at most when that one changes its key", async (t) => {
        const { laptop, home } = agents;
        assert.ok(laptop !== undefined && home !== undefined);
        await must(home.place, "sysctl -qw net.ipv4.ip_forward=1");
        await must(
          home.place,
          "nft -f -",
          'table ip nat { chain post { type nat hook postrouting priority srcnat; oifname "wire" masquerade; }; }',
        );
        await laptop.ask({ do: "use", exit: "home" });
        await until("it goes through", () => pings(laptop.place, MIDDLES[1], "-W", "1"));
        const { publicKey } = await home.status();
        pace.begin();
        const { came, lost } = await lostWhile(laptop.place, MIDDLES[1], String(PING_EVERY_MS / 1_000), async () => {
          await home.ask({ do: "rotate" });
          await until("another key is in use", async () => (await home.status()).publicKey !== publicKey);
        });
        t.diagnostic(`${came} answers, ${lost.length} lost: ${lost.length * PING_EVERY_MS} ms`);
        assert.ok(lost.length * PING_EVERY_MS <= pace.allows(GAP_MAX_MS), `${lost.length} lost of ${came}`);
        assert.match((await laptop.place.exec.run(["ip", "route", "get", MIDDLES[1]])).stdout, /exnky/);
      });
  });

const keyNamed = (name: string): Key => keyOf(hash(utf8(name)));

/** A device's key, the keys it has kept, and those that chance gives it in turn. */
function rotationOf(...next: readonly string[]): { rotation: Rotation; kept: Key[] } {
  const kept: Key[] = [];
  const names = [...next];
  const random = (): Uint8Array => keyBytes(keyNamed(names.shift() ?? assert.fail("no more keys")));
  return { rotation: new Rotation(keyNamed("old"), random, async (key) => void kept.push(key)), kept };
}

test("the new key is used once the coordinator knows it, and not by the welcome to the old one", async () => {
  const { rotation, kept } = rotationOf("new");
  const old = rotation.offered;
  rotation.begin();
  assert.equal(rotation.welcomed(old), false);
  assert.equal(rotation.privateKey, keyNamed("old"));
  assert.equal(rotation.welcomed(rotation.offered), true);
  await rotation.keep();
  assert.deepEqual([rotation.privateKey, ...kept], [keyNamed("new"), keyNamed("new")]);
  assert.notEqual(rotation.offered, old);
});

test("a key is changed when its time has come, once while the coordinator is away, and never all the time", () => {
  const { rotation } = rotationOf("new", "newer");
  let now = 0;
  const due = { role: "device", rotateAtMs: 5_000 } as const;
  const at = (wall: number) => ({ now: () => now, wall: () => wall });
  assert.equal(rotation.follow({ role: "exit-node" }, at(9_000)), false);
  assert.equal(rotation.follow(due, at(4_999)), false);
  assert.equal(rotation.follow(due, at(5_000)), true);
  const offered = rotation.offered;
  now += ROTATIONS_APART_MS;
  assert.equal(rotation.follow(due, at(9_000)), false, "the coordinator has not taken the last one yet");
  assert.equal(rotation.offered, offered);
  assert.equal(rotation.privateKey, keyNamed("old"));
  rotation.welcomed(offered);
  // A clock that is years ahead: whatever the coordinator says is over.
  now += 1;
  assert.equal(rotation.follow(due, at(1e12)), true);
  rotation.welcomed(rotation.offered);
  now += ROTATIONS_APART_MS - 1;
  assert.equal(rotation.follow(due, at(1e12)), false);
});

test("an exit node whose key has ended makes another one by whatever clock it has; a person's device does not", () => {
  const ended = { rotateAtMs: 5_000, waiting: "key-expired" } as const;
  const unset = { now: () => 0, wall: () => 0 };
  assert.equal(rotationOf("new").rotation.follow({ role: "exit-node", ...ended }, unset), true);
  assert.equal(rotationOf("new").rotation.follow({ role: "device", ...ended }, unset), false);
  assert.equal(rotationOf("new").rotation.follow({ role: "exit-node", ...ended, waiting: "approval" }, unset), false);
});
