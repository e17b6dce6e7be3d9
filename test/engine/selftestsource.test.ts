import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { must, pings } from "./places.js";
import { OURS, PORT, THEIRS, Tunnel } from "./tunnel.js";
import { identityOf, NEWER } from "./wireguardgo.js";

/**
 * Our machine has two addresses on the wire. A peer writes to the second, and a firewall on its way lets back only
 * what comes from there: answers must leave from the address that was written to.
 */
for (const { family, first, second, at, mask } of [
  { family: "IPv4", first: "10.99.7.1", second: "10.99.7.11", at: (one: string) => `${one}:${PORT}`, mask: 24 },
  { family: "IPv6", first: "fd99:7::1", second: "fd99:7::11", at: (one: string) => `[${one}]:${PORT}`, mask: 64 },
] as const)
  describe(`over ${family}`, () => {
    let tunnel: Tunnel;
    before(async () => {
      tunnel = await Tunnel.open(`exn-io-a${family.at(-1)}`, NEWER);
    });
    after(() => tunnel?.close());
    const nodad = family === "IPv6" ? " nodad" : "";
    let serial = 0;
    beforeEach(async () => {
      await must(tunnel.here, `ip address replace ${second}/${mask} dev wire${nodad}`);
      // What the kernel would choose by itself is the first.
      await must(
        tunnel.here,
        `ip route replace ${family === "IPv4" ? "10.99.7.0/24" : "fd99:7::/64"} dev wire src ${first}`,
      );
      tunnel.us = identityOf(`us with two addresses ${serial++}`);
      await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
      await tunnel.connect({ ourEndpoint: at(second) });
    });

    test("answers leave from the address that was written to", async () => {
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(await tunnel.go.endpoint(), at(second));
    });

    test("a peer that writes to another address of ours is answered from there", async () => {
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} endpoint ${at(first)}`);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(await tunnel.go.endpoint(), at(first));
      await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} endpoint ${at(second)}`);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      assert.equal(await tunnel.go.endpoint(), at(second));
    });

    test("when that address is taken away, another is used and the peer follows", async () => {
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      await must(tunnel.here, `ip address delete ${second}/${mask} dev wire`);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(await tunnel.go.endpoint(), at(first));
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
    });
  });
