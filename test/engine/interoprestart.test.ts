import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { SECOND } from "../../src/kit/time.js";
import { REKEY_TIMEOUT_MS, SILENCE_MS } from "../../src/wireguard/constants.js";
import { threadIn } from "./enginethread.js";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { addressed, OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { PROGRAMS, type Program, WireguardGo } from "./wireguardgo.js";

/**
 * Either end ends and comes back with the same key and no memory. Whoever came back begins a session at once when it
 * has something to send; the other, which trusts its old session, finds out by silence (paper §6.5): it initiates
 * KEEPALIVE_TIMEOUT + REKEY_TIMEOUT after the first packet that nothing answered.
 */
const BOTH = { ourEndpoint: `${WIRE4.ours}:${PORT}`, theirEndpoint: `${WIRE4.theirs}:${PORT}` };
/** What a slow machine may add; that nothing was tried twice is counted. */
const SLACK_MS = 2 * REKEY_TIMEOUT_MS;

// The waits are the protocol's, so that all wait at once.
describe("restarts", { concurrency: true }, () => {
  for (const [number, program] of PROGRAMS.entries()) {
    describe(`of our engine, before wireguard-go ${program.version}`, { concurrency: 1 }, () => {
      let tunnel: Tunnel;
      before(async () => {
        tunnel = await opened(`exn-io-s${number}`, program);
      });
      after(() => tunnel?.close());

      test("its first packet begins a session at once", async () => {
        await engineAgain(tunnel);
        assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "4"), true);
      });

      test("when it is silent, their packets pass again by their silence timer", async () => {
        assert.equal(await pings(tunnel.there, OURS.ip4), true, "nothing of theirs is unanswered");
        const restartedAt = performance.now();
        await engineAgain(tunnel);
        tunnel.go.forget();
        const passes = () => pings(tunnel.there, OURS.ip4, "-W", "1");
        bySilence(restartedAt, await until("a ping of theirs passes", passes));
        assert.equal(tunnel.go.count("because we stopped hearing back after 15 seconds"), 1);
        assert.equal(tunnel.go.count("Sending handshake initiation"), 1);
      });
    });

    describe(`of wireguard-go ${program.version}`, { concurrency: 1 }, () => {
      let tunnel: Tunnel;
      let go: WireguardGo;
      before(async () => {
        tunnel = await opened(`exn-io-t${number}`, program);
        go = tunnel.go;
      });
      after(async () => {
        await go?.stop();
        await tunnel?.close();
      });

      test("its first packet begins a session at once", async () => {
        go = await programAgain(go, tunnel, program);
        assert.equal(await pings(tunnel.there, OURS.ip4, "-W", "4"), true);
      });

      test("when it is silent, our packets pass again by our silence timer", async () => {
        assert.equal(await pings(tunnel.here, THEIRS.ip4), true, "nothing of ours is unanswered");
        const restartedAt = performance.now();
        go = await programAgain(go, tunnel, program);
        const passes = () => pings(tunnel.here, THEIRS.ip4, "-W", "1");
        bySilence(restartedAt, await until("a ping of ours passes", passes));
        assert.equal(go.count("Received handshake initiation"), 1);
      });
    });

    test(`of our engine and then of wireguard-go ${program.version}: what waits leaves with the first retry`, async (t) => {
      const tunnel = await opened(`exn-io-u${number}`, program);
      t.after(() => tunnel.close());
      await engineAgain(tunnel);
      await tunnel.go.stop();
      const waiting = pings(tunnel.here, THEIRS.ip4, "-W", "50");
      await until("our initiation left", async () => (await tunnel.peer()).sentBytes > 0);
      const again = await programAgain(tunnel.go, tunnel, program);
      t.after(() => again.stop());
      const from = performance.now();
      assert.equal(await waiting, true);
      const tookMs = performance.now() - from;
      assert.equal(again.count("Received handshake initiation"), 1);
      assert.ok(tookMs < REKEY_TIMEOUT_MS + SLACK_MS, `after ${tookMs} ms`);
    });
  }
});

function bySilence(restartedAt: number, tookMs: number): void {
  const sinceMs = performance.now() - restartedAt;
  assert.ok(sinceMs > SILENCE_MS - SECOND && tookMs < SILENCE_MS + SLACK_MS, `after ${tookMs} of ${sinceMs} ms`);
}

/** A tunnel with a session in use. */
async function opened(prefix: string, program: Program): Promise<Tunnel> {
  const tunnel = await Tunnel.open(prefix, program);
  await tunnel.connect(BOTH);
  assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
  assert.equal(await pings(tunnel.there, OURS.ip4), true);
  return tunnel;
}

async function engineAgain(tunnel: Tunnel): Promise<void> {
  await tunnel.engine.close();
  tunnel.engine = new Engine({ workerUrl: threadIn(tunnel.here.name) });
  await tunnel.set();
  await must(tunnel.here, `ip link set ${tunnel.device} mtu 1420 up`);
  await addressed(tunnel.here, tunnel.device, `${OURS.ip4}/24`, `${OURS.ip6}/64`);
}

async function programAgain(before: WireguardGo, tunnel: Tunnel, program: Program): Promise<WireguardGo> {
  await before.stop();
  const again = await WireguardGo.start(tunnel.there, before.device, program);
  await again.configure(tunnel.them, PORT, [tunnel.theirPeer(BOTH)]);
  await again.up(1420);
  await addressed(tunnel.there, again.device, `${THEIRS.ip4}/24`, `${THEIRS.ip6}/64`);
  return again;
}
