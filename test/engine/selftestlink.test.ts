import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { addressed, OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { PROGRAMS } from "./wireguardgo.js";

/** What WireGuard's own self-test does to links: the tunnel's interface and the wire below go down and come back. */
describe("links", { concurrency: true }, () => {
  for (const [number, program] of PROGRAMS.entries()) {
    test(`our interface goes down and up, before wireguard-go ${program.version}: the session lives on`, async (t) => {
      const tunnel = await opened(t, `exn-io-i${number}`, program);
      await must(tunnel.here, `ip link set ${tunnel.device} down`);
      assert.equal(await pings(tunnel.there, OURS.ip4, "-W", "0.5"), false);
      await must(tunnel.here, `ip link set ${tunnel.device} up`);
      await addressed(tunnel.here, tunnel.device, `${OURS.ip4}/24`);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      assert.equal(tunnel.go.count("Received handshake initiation"), 1);
    });

    test(`their interface goes down and up, with wireguard-go ${program.version}: the session lives on`, async (t) => {
      const tunnel = await opened(t, `exn-io-j${number}`, program);
      await must(tunnel.there, `ip link set ${tunnel.go.device} down`);
      assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "0.5"), false);
      await must(tunnel.there, `ip link set ${tunnel.go.device} up`);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
      assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
      assert.equal(tunnel.go.count("Received handshake initiation"), 1);
    });

    test(`the wire comes late: a keepalive finds wireguard-go ${program.version} without any traffic`, async (t) => {
      const tunnel = await Tunnel.open(`exn-io-n${number}`, program);
      t.after(() => tunnel.close());
      await must(tunnel.here, "ip link set wire down");
      const endpoint = { theirEndpoint: `${WIRE4.theirs}:${PORT}` };
      await tunnel.connect(endpoint);
      await tunnel.set({ peers: [{ ...tunnel.ourPeer(endpoint), persistentKeepaliveSeconds: 1 }] });
      await must(tunnel.here, "ip link set wire up");
      const met = async (): Promise<boolean> => (await tunnel.peer()).lastHandshakeAgeMs !== undefined;
      // The initiation that had nowhere to go is repeated.
      await until("there is a session", met);
      assert.equal(await pings(tunnel.there, OURS.ip4), true);
    });

    test(`the wire is cut and mended: wireguard-go ${program.version} and we go on where we were`, async (t) => {
      const tunnel = await opened(t, `exn-io-b${number}`, program);
      await must(tunnel.here, "ip link set wire down");
      assert.equal(await pings(tunnel.here, THEIRS.ip4, "-W", "0.5"), false);
      await must(tunnel.here, "ip link set wire up");
      await until("a ping passes", () => pings(tunnel.here, THEIRS.ip4, "-W", "1"));
      assert.equal(tunnel.go.count("Received handshake initiation"), 1, "no new handshake was needed");
    });
  }
});

async function opened(
  t: { after(end: () => Promise<void>): void },
  prefix: string,
  program: (typeof PROGRAMS)[number],
): Promise<Tunnel> {
  const tunnel = await Tunnel.open(prefix, program);
  t.after(() => tunnel.close());
  await tunnel.connect({ ourEndpoint: `${WIRE4.ours}:${PORT}`, theirEndpoint: `${WIRE4.theirs}:${PORT}` });
  assert.equal(await pings(tunnel.here, THEIRS.ip4), true);
  return tunnel;
}
