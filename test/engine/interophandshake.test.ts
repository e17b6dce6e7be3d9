import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { pings } from "./places.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4, WIRE6 } from "./tunnel.js";
import { identityOf, PROGRAMS } from "./wireguardgo.js";

/** A session with wireguard-go, made in every way there is to make one. */

const secret = identityOf("shared").privateKey;

for (const [number, program] of PROGRAMS.entries())
  for (const wire of [WIRE4, WIRE6]) {
    const family = wire === WIRE4 ? "IPv4" : "IPv6";
    const at = (address: string): string => (wire === WIRE4 ? `${address}:${PORT}` : `[${address}]:${PORT}`);

    describe(`with wireguard-go ${program.version} over ${family}`, () => {
      // A process for each family: 0.0.20231211, once it has sent over IPv4, sends over IPv6 to an address of which
      // only four bytes are right, because both families share its pool of addresses.
      let tunnel: Tunnel;
      before(async () => {
        tunnel = await Tunnel.open(`exn-io-${number}${wire === WIRE4 ? 4 : 6}`, program);
      });
      after(() => tunnel?.close());

      for (const presharedKey of [undefined, secret])
        for (const initiator of ["us", "them"] as const) {
          const how = presharedKey === undefined ? "without a preshared key" : "with a preshared key";
          test(`a session that ${initiator === "us" ? "we" : "they"} begin ${how} carries both ways`, async () => {
            // New keys: no session of the case before is of any use.
            tunnel.us = identityOf(`us ${initiator} ${how}`);
            tunnel.them = identityOf(`them ${initiator} ${how}`);
            await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
            tunnel.go.forget();
            await tunnel.connect({
              ...(presharedKey === undefined ? {} : { presharedKey }),
              ...(initiator === "us" ? { theirEndpoint: at(wire.theirs) } : { ourEndpoint: at(wire.ours) }),
            });
            const [first, last] = initiator === "us" ? [ping.there, ping.here] : [ping.here, ping.there];
            for (const one of [first, last]) {
              assert.equal(await one(tunnel, 4), true);
              assert.equal(await one(tunnel, 6), true);
            }
            assert.equal(tunnel.go.count("Sending handshake initiation"), initiator === "us" ? 0 : 1);
            assert.equal(tunnel.go.count("Received handshake initiation"), initiator === "us" ? 1 : 0);
            assert.equal((await tunnel.peer()).endpoint?.address, wire.theirs);
          });
        }

      if (wire === WIRE6) return;
      test("a preshared key that only one side has makes no session", async () => {
        tunnel.us = identityOf("us alone with a secret");
        await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
        tunnel.go.forget();
        const options = { theirEndpoint: at(wire.theirs) };
        await tunnel.connect(options);
        await tunnel.set({ peers: [{ ...tunnel.ourPeer(options), presharedKey: secret }] });
        assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "0.5"), false);
        await tunnel.go.says("Sending handshake response");
        assert.equal((await tunnel.peer()).lastHandshakeAgeMs, undefined);
      });
    });
  }

const FULL = ["-s", "1372", "-M", "do"];
const ping = {
  there: (tunnel: Tunnel, family: 4 | 6) => pings(tunnel.here, THEIRS[`ip${family}`], ...FULL),
  here: (tunnel: Tunnel, family: 4 | 6) => pings(tunnel.there, OURS[`ip${family}`], ...FULL),
};
