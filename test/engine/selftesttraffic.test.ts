import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { must, pings } from "./places.js";
import { type Transferred, transfer } from "./transfer.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4, WIRE6 } from "./tunnel.js";
import { identityOf, PROGRAMS } from "./wireguardgo.js";

/** What WireGuard's own self-test does with every implementation: pings, streams and datagrams, at several MTUs. */
const MEGABYTES = 8;
const DATAGRAM_RATE = 15;
/** The machine is shared, and a lost datagram is no error: a broken length or checksum loses all of them. */
const LOST_SHARE_MAX = 0.3;
const WIRE_MTU = 65_535;
const IP_AND_UDP_BYTES = { 4: 28, 6: 48 } as const;

for (const [number, program] of PROGRAMS.entries())
  describe(`with wireguard-go ${program.version}`, () => {
    let tunnel: Tunnel;
    before(async () => {
      tunnel = await Tunnel.open(`exn-io-y${number}`, program);
      for (const place of [tunnel.here, tunnel.there]) await must(place, `ip link set wire mtu ${WIRE_MTU}`);
    });
    after(() => tunnel?.close());

    // IPv6 first: 0.0.20231211 does not find back to it from IPv4.
    for (const { mtu, under } of [
      { mtu: 1420, under: `[${WIRE6.theirs}]:${PORT}` },
      { mtu: 1280, under: `${WIRE4.theirs}:${PORT}` },
      { mtu: 8_920, under: `${WIRE4.theirs}:${PORT}` },
      { mtu: 33_316, under: `${WIRE4.theirs}:${PORT}` },
    ])
      describe(`at an MTU of ${mtu}, to ${under}`, () => {
        before(async () => {
          tunnel.us = identityOf(`us at ${mtu}`);
          await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
          await tunnel.connect({ theirEndpoint: under, mtu });
        });

        test("pings as long as the MTU pass both ways, over IPv4 and IPv6", async () => {
          for (const [from, to] of [
            [tunnel.here, THEIRS],
            [tunnel.there, OURS],
          ] as const)
            for (const family of [4, 6] as const) {
              const payload = String(mtu - IP_AND_UDP_BYTES[family]);
              assert.equal(await pings(from, to[`ip${family}`], "-M", "do", "-s", payload), true, `IPv${family}`);
            }
        });

        test("streams pass both ways at once", async () => {
          const options = { megabytes: MEGABYTES, streams: 2 };
          const arrived = await Promise.all([
            transfer(tunnel.here, tunnel.there, THEIRS.ip4, options),
            transfer(tunnel.there, tunnel.here, OURS.ip6, options),
          ]);
          for (const { bytes } of arrived) assert.ok(bytes > (MEGABYTES / 2) * 2 ** 20, `${bytes} bytes arrived`);
        });

        test("datagrams as long as the MTU pass both ways at once", async () => {
          const options = (family: 4 | 6) => ({
            megabytes: MEGABYTES / 4,
            rate: DATAGRAM_RATE,
            datagramBytes: mtu - IP_AND_UDP_BYTES[family],
          });
          const arrived = await Promise.all([
            transfer(tunnel.here, tunnel.there, THEIRS.ip6, options(6)),
            transfer(tunnel.there, tunnel.here, OURS.ip4, options(4)),
          ]);
          for (const one of arrived) fewLost(one);
        });
      });

    test("no datagram is longer than its packet's MTU needs: padding ends there", async () => {
      const mtu = 1300;
      tunnel.us = identityOf("us without room");
      await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
      await tunnel.connect({ theirEndpoint: `${WIRE4.theirs}:${PORT}`, mtu });
      // Type, receiver, counter and tag are 32 bytes; IPv4 and UDP are 28.
      const drop = `table ip longest {
  chain in {
    type filter hook prerouting priority raw;
    ip length > ${mtu + 32 + 28} drop
  }
}
`;
      for (const place of [tunnel.here, tunnel.there]) await must(place, "nft -f -", drop);
      assert.equal(await pings(tunnel.here, THEIRS.ip4, "-M", "do", "-s", String(mtu - 28)), true);
      assert.equal(await pings(tunnel.here, THEIRS.ip4, "-M", "do", "-s", String(mtu - 33)), true);
    });
  });

function fewLost({ bytes, lostShare }: Transferred): void {
  assert.ok(bytes > 0 && lostShare < LOST_SHARE_MAX, `${lostShare} of the datagrams lost`);
}
