import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { SECOND } from "../../src/kit/time.js";
import { HANDSHAKES_BEFORE_LOAD, LOAD_LASTS_MS, REKEY_TIMEOUT_MS } from "../../src/wireguard/constants.js";
import { until } from "./patience.js";
import { must, type Place, pings } from "./places.js";
import { Strangers } from "./strangers.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { countWire, type WireCount, wireCount } from "./wirecount.js";
import { PROGRAMS } from "./wireguardgo.js";

/**
 * A flood of initiations, and a peer that gets through it by a cookie (paper §5.3): its first initiation is answered
 * with one, its retry after REKEY_TIMEOUT proves its address with it. The flood comes from another address.
 */
const FLOOD_FROM = "10.99.7.66";
/** Ours and theirs alone: both use this port. */
const THE_PEERS = `udp sport ${PORT} udp dport ${PORT}`;
/** wireguard-go is under load while 128 handshakes wait (QueueHandshakeSize / 8), for a second. */
const THEIR_BURST = 300;
const HANDSHAKES_MAX = 10;
/** By the first retry: the second comes no sooner than this. */
const RETRIED_MS = 2 * REKEY_TIMEOUT_MS;

describe("under a flood of initiations", { concurrency: true }, () => {
  for (const [number, program] of PROGRAMS.entries()) {
    test(`we answer with cookies, and wireguard-go ${program.version} gets through`, async (t) => {
      const tunnel = await Tunnel.open(`exn-io-c${number}`, program);
      t.after(() => tunnel.close());
      await tunnel.connect({ ourEndpoint: `${WIRE4.ours}:${PORT}` });
      const strangers = await crowdIn(tunnel.there, `${WIRE4.ours}:${PORT}`, tunnel.us.publicKey);
      t.after(() => strangers.close());
      strangers.flood(HANDSHAKES_BEFORE_LOAD / 5, SECOND / 20);
      await until("strangers are asked for a cookie", () => strangers.refused > 0);

      const { tookMs, sent, got } = await underTheFlood(strangers, tunnel.there, async () => {
        await tunnel.go.configure(tunnel.them, PORT, [tunnel.theirPeer({ ourEndpoint: `${WIRE4.ours}:${PORT}` })]);
        return () => pings(tunnel.there, OURS.ip4, "-W", "40");
      });
      assert.ok(tookMs > REKEY_TIMEOUT_MS - SECOND && tookMs < RETRIED_MS, `after ${tookMs} ms`);
      assert.deepEqual([sent.initiations, sent.proven], [2, 1]);
      assert.deepEqual([got.cookieReplies, got.responses], [1, 1]);
    });

    test(`wireguard-go ${program.version} answers with cookies, and we get through`, async (t) => {
      const tunnel = await Tunnel.open(`exn-io-d${number}`, program);
      t.after(() => tunnel.close());
      await tunnel.connect({ theirEndpoint: `${WIRE4.theirs}:${PORT}` });
      const strangers = await crowdIn(tunnel.here, `${WIRE4.theirs}:${PORT}`, tunnel.them.publicKey);
      t.after(() => strangers.close());
      strangers.flood(THEIR_BURST, SECOND / 10);
      await until("strangers are asked for a cookie", () => strangers.refused > 0);

      const { sent, got } = await underTheFlood(strangers, tunnel.here, async () => {
        await tunnel.set({ peers: [] });
        await tunnel.set({ peers: [tunnel.ourPeer({ theirEndpoint: `${WIRE4.theirs}:${PORT}` })] });
        return () => pings(tunnel.here, THEIRS.ip4, "-W", "40");
      });
      assert.ok(got.cookieReplies >= 1, "they asked us for a cookie");
      assert.ok(sent.proven >= 1, "we showed it");
      assert.equal(got.responses, 1);
    });
  }
});

/**
 * A handshake between two that know nothing of each other, as `begin` makes it possible. One that met no load, because
 * this process was held up and no flood came, says nothing: there is another.
 */
async function underTheFlood(
  strangers: Strangers,
  place: Place,
  begin: () => Promise<() => Promise<boolean>>,
): Promise<{ tookMs: number; sent: WireCount; got: WireCount }> {
  for (let left = HANDSHAKES_MAX; ; left--) {
    const passes = await begin();
    await countWire(place, THE_PEERS);
    strangers.longestPauseMs = 0;
    const from = performance.now();
    assert.equal(await passes(), true);
    const tookMs = performance.now() - from;
    const [sent, got] = [await wireCount(place, "out"), await wireCount(place, "in")];
    const isHeldUp = strangers.longestPauseMs > LOAD_LASTS_MS / 2;
    if (got.cookieReplies > 0 || !isHeldUp || left === 1) return { tookMs, sent, got };
  }
}

async function crowdIn(place: Place, to: string, responder: Parameters<typeof Strangers.open>[3]): Promise<Strangers> {
  await must(place, `ip address add ${FLOOD_FROM}/24 dev wire`);
  return Strangers.open(place, FLOOD_FROM, parseEndpoint(to), responder);
}
