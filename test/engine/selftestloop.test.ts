import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { parseCidr } from "../../src/kit/ip.js";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { identityOf, NEWER } from "./wireguardgo.js";

/** The route to the peer's own endpoint leads into the tunnel: what the tunnel sends would come back to it for ever. */
const MARK = 0x45_0001;
const TABLE = 4_545;
/** A loop makes tens of thousands a second; an initiation, its retry and what the machine says by itself are a few. */
const PACKETS_MAX = 12;

describe("a route that leads the tunnel into itself", () => {
  let tunnel: Tunnel;
  const endpoint = { theirEndpoint: `${WIRE4.theirs}:${PORT}` };
  before(async () => {
    tunnel = await Tunnel.open("exn-io-o", NEWER);
  });
  after(() => tunnel?.close());
  let serial = 0;
  beforeEach(async () => {
    tunnel.us = identityOf(`us in a loop ${serial++}`);
    await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [], fwmark: 0 });
    await tunnel.connect(endpoint);
    await tunnel.set({ peers: [{ ...tunnel.ourPeer(endpoint), allowedIps: [parseCidr("0.0.0.0/0")] }] });
  });

  /** Packets that the machine gave to the tunnel so far. */
  const given = async (): Promise<number> =>
    Number(await must(tunnel.here, `cat /sys/class/net/${tunnel.device}/statistics/tx_packets`));

  test("with a mark that escapes the route, it works", async () => {
    await tunnel.set({ fwmark: MARK });
    await must(tunnel.here, `ip route add ${WIRE4.theirs}/32 dev ${tunnel.device} table ${TABLE}`);
    await must(tunnel.here, `ip rule add not fwmark ${MARK} table ${TABLE}`);
    try {
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
    } finally {
      await must(tunnel.here, `ip rule delete not fwmark ${MARK} table ${TABLE}`);
    }
  });

  test("without a mark and without a session, nothing arrives and nothing multiplies", async () => {
    await must(tunnel.here, `ip route add ${WIRE4.theirs}/32 dev ${tunnel.device}`);
    const before = await given();
    assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "0.5"), false);
    assert.ok((await given()) - before <= PACKETS_MAX, `${(await given()) - before} packets`);
    await must(tunnel.here, `ip route delete ${WIRE4.theirs}/32 dev ${tunnel.device}`);
  });

  for (const bytes of [56, 1392])
    test(`without a mark, a packet of ${bytes + 28} bytes in a session is not sent round and round`, async () => {
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      await must(tunnel.here, `ip route add ${WIRE4.theirs}/32 dev ${tunnel.device}`);
      const before = await given();
      assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "0.5", "-s", String(bytes)), false);
      const looped = (await given()) - before;
      await until("what was stopped is counted", async () => !!(await tunnel.engine.state()).unsent?.looped);
      await must(tunnel.here, `ip route delete ${WIRE4.theirs}/32 dev ${tunnel.device}`);
      assert.ok(looped <= PACKETS_MAX, `${looped} packets`);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true, "without the route it works again");
    });
});
