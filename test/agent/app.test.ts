import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { readWgQuick, type WgQuick } from "../cli/wgquick.js";
import { until } from "../engine/patience.js";
import { pings, stop } from "../engine/places.js";
import { AppWorld, EXIT, WAYS, WEB } from "./appworld.js";

const REVOKED_WITHIN_MS = 1_000;

for (const dataPlane of ["userspace", "kernel"] as const)
  describe(`a WireGuard app at an exit node with a ${dataPlane} data plane`, () => {
    const world = new AppWorld(`exn-p${dataPlane[0]}`, dataPlane);
    let config: WgQuick;

    before(async () => {
      await world.open();
      const { stdout, stderr, code } = await world.administer("device", "add", "phone");
      assert.equal(code, 0, stderr);
      config = readWgQuick(stdout);
      await until("the exit node knows it", async () => (await exitPeer("phone")) !== undefined);
      await world.configure(config);
    });
    after(() => world.close());

    const exitPeer = (name: string) => world.home.peer(name);
    const answered = () => pings(world.phone, WEB, "-W", "1");

    test("dials where the exit node is open, and everything it sends leaves there", async () => {
      assert.equal(config.endpoint, `${EXIT}:51820`);
      await until("it is answered", answered);
      assert.equal(await world.seenAs(), EXIT);
      await until("the list has it", async () => (await world.listed("phone"))?.lastSeenAtMs !== undefined);
      const peer = await exitPeer("phone");
      assert.deepEqual([peer?.app, peer?.path, peer?.endpoint?.split(":")[0]], [true, "direct", WAYS[0].own]);
    });

    test("goes on from another address, and stays there whatever else changes at the exit node", async (t) => {
      await world.wayOut(1);
      const tookMs = await until("it is answered", answered);
      t.diagnostic(`answered ${Math.round(tookMs)} ms after it moved`);
      const at = async () => (await exitPeer("phone"))?.endpoint?.split(":")[0];
      assert.equal(await at(), WAYS[1].own);
      // Each makes the exit node set up its interface anew.
      for (const name of ["tablet", "watch"]) {
        await world.administer("device", "add", name);
        await until("it is there", async () => (await exitPeer(name)) !== undefined);
        assert.equal(await at(), WAYS[1].own);
      }
      assert.ok(await pings(world.phone, WEB));
    });

    test("is back after the exit node's agent was killed, before it has to begin anew by itself", async (t) => {
      await until("it was heard", async () => (await exitPeer("phone"))?.lastHandshakeAgeMs !== undefined);
      await world.heardIsKept();
      await world.home.kill();
      await world.startHome();
      const tookMs = await until("it is answered", answered, 14_000);
      t.diagnostic(`answered ${Math.round(tookMs)} ms after the agent was there`);
      assert.equal(await world.seenAs(), EXIT);
    });

    test("keeps its exit node from changing its key", async () => {
      const key = (await world.home.status()).publicKey;
      assert.equal(key, config.publicKey);
    });

    test("is shut out within a second when it is revoked", async (t) => {
      const flood = world.flood();
      await until("answers come", () => flood.answers.length > 5);
      const { stdout, code } = await world.administer("device", "revoke", "phone", "--json");
      const next = await flood.next();
      assert.equal(code, 0, stdout);
      const { told } = JSON.parse(stdout) as { told: { peers: number; confirmed: number; tookMs: number } };
      assert.deepEqual([told.peers, told.confirmed], [1, 1]);
      assert.ok(told.tookMs < REVOKED_WITHIN_MS, `${told.tookMs} ms`);
      t.diagnostic(`confirmed after ${Math.round(told.tookMs)} ms`);
      assert.equal(await answered(), false);
      await stop(flood.child);
      const late = flood.answers.filter((number) => number >= next);
      assert.deepEqual(late, [], "what was sent after the command had ended was answered");
      assert.equal(await exitPeer("phone"), undefined);
    });
  });
