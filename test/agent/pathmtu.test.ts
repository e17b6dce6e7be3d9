import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Millis } from "../../src/kit/time.js";
import { until } from "../engine/patience.js";
import { must } from "../engine/places.js";
import { transfer } from "../engine/transfer.js";
import { stream } from "../vm/stream.js";
import { PathsWorld, type PlacedAgent } from "./pathsworld.js";

const STREAM_MAX_MS: Millis = 60_000;

/** The tunnel's MTU follows what the direct path carries whole: real agents, and a line that gets narrow in the middle. */
for (const dataPlane of ["userspace", "kernel"] as const)
  describe(`a path of little width, ${dataPlane} WireGuard at one end`, () => {
    const world = new PathsWorld(dataPlane === "kernel" ? "exn-mtk-" : "exn-mtu-");
    let laptop: PlacedAgent;
    let desk: PlacedAgent;
    let address = "";
    before(async () => {
      await world.open();
      await narrow(1_400);
      // An interface name of our own: wireguard-go's sockets lie in one folder, whatever the namespace.
      [laptop, desk] = await Promise.all([
        world.agent("a", "laptop", { dataPlane, interface: "exnmta" }),
        world.agent("b", "desk", { interface: "exnmtb" }),
      ]);
      await until("they know each other", async () => (await laptop.peer("desk")) !== undefined);
      address = (await laptop.peer("desk"))?.addresses[0] ?? "";
    });
    after(() => world.close());

    /** In both directions. */
    async function narrow(mtu: number): Promise<void> {
      await must(world.middle, `ip link set to-b mtu ${mtu}`);
      await must(world.sides.b.router, `ip link set out mtu ${mtu}`);
    }
    const ping = (...options: string[]) =>
      laptop.place.exec.run(["ping", "-n", "-q", "-c", "1", "-W", "2", ...options, address]);
    /** 0 while there is no device yet. */
    const linkMtu = async (agent: PlacedAgent, side: "a" | "b"): Promise<number> =>
      Number((await agent.place.exec.run(["cat", `/sys/class/net/exnmt${side}/mtu`])).stdout);
    /** Traffic goes on meanwhile: a path that nobody uses is not measured. */
    const both = (mtu: number): Promise<number> =>
      until(`both ends have an MTU of ${mtu}`, async () => {
        await ping();
        return (await linkMtu(laptop, "a")) === mtu && (await linkMtu(desk, "b")) === mtu;
      });

    test("it begins at 1280 bytes, and is measured upwards to what goes through whole", async (t) => {
      await until("the device is set", async () => (await linkMtu(laptop, "a")) === 1_280);
      t.diagnostic(`measured after ${Math.round(await both(1_340))} ms`);
      assert.equal((await laptop.status()).mtu, 1_340);
    });

    test("another path is measured again, and is not believed to carry more than 1420", async () => {
      await narrow(1_500);
      await world.cut("udp dport 51820");
      await until("not direct", async () => {
        await ping();
        return (await laptop.peer("desk"))?.path !== "direct";
      });
      assert.equal(await linkMtu(laptop, "a"), 1_340, "the relay changes nothing");
      await world.cut();
      await both(1_420);
    });

    test("a path of 1124 bytes works, for whole packets, TCP and UDP", async () => {
      await narrow(1_124);
      // In the kernel's place stands wireguard-go, which lets nobody cut its datagrams until it is told of the width.
      await until("a whole packet passes", async () => (await ping("-s", "1252", "-M", "do")).exitCode === 0);
      await stream(laptop.place, desk.place, address, 4, STREAM_MAX_MS);
      // So slowly that a receiver's buffer has room for what comes while it is not let run.
      const datagrams = await transfer(laptop.place, desk.place, address, {
        megabytes: 1,
        rate: 2,
        datagramBytes: 1_200,
      });
      assert.ok(datagrams.lostShare < 0.01, `${datagrams.lostShare} lost`);
    });
  });
