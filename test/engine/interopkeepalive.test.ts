import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { SECOND } from "../../src/kit/time.js";
import type { WantInterface } from "../../src/wireguard/interface.js";
import { TRANSPORT_BYTES_MIN, TYPE_TRANSPORT } from "../../src/wireguard/messages.js";
import { CorePeer } from "./corepeer.js";
import { threadIn } from "./enginethread.js";
import {
  forgotten,
  lineLost,
  MAPPING_TIMEOUT_S,
  makeNatPlaces,
  masquerade,
  type NatPlaces,
  OUTSIDE,
  removeNatPlaces,
} from "./natplaces.js";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { addressed, OURS, PORT, THEIRS } from "./tunnel.js";
import { countWire, wireCount } from "./wirecount.js";
import { identityOf, PROGRAMS, WireguardGo } from "./wireguardgo.js";

/** One end is behind a home router whose mappings last two seconds; a persistent keepalive each second holds its own. */
const us = identityOf("us with a keepalive");
const them = identityOf("them with a keepalive");
const INTERVAL_S = 1;
/** Longer than a mapping lives. */
const QUIET_KEEPALIVES = MAPPING_TIMEOUT_S + 1;
const KEEPALIVE_BYTES = TRANSPORT_BYTES_MIN;

const want = (name: string, change: { endpoint?: string; keepalive?: boolean } = {}): WantInterface => ({
  name,
  privateKey: us.privateKey,
  listenPort: PORT,
  mtu: 1420,
  fwmark: 0,
  peers: [
    {
      publicKey: them.publicKey,
      ...(change.endpoint === undefined ? {} : { endpoint: parseEndpoint(change.endpoint) }),
      allowedIps: [parseCidr(THEIRS.ip4)],
      persistentKeepaliveSeconds: change.keepalive === true ? INTERVAL_S : 0,
    },
  ],
});

describe("persistent keepalives", { concurrency: true }, () => {
  for (const [number, program] of PROGRAMS.entries()) {
    const prefix = `exn-io-k${number}`;
    describe(`of ours, to wireguard-go ${program.version}`, { concurrency: 1 }, () => {
      let places: NatPlaces;
      let engine: Engine;
      let go: WireguardGo;
      const device = `${prefix}a`;
      before(async () => {
        places = await makeNatPlaces(prefix);
        go = await WireguardGo.start(places.outside, `${prefix}b`, program);
        await go.configure(them, PORT, [{ publicKey: us.publicKey, allowedIps: OURS.ip4 }]);
        await go.up(1420, `${THEIRS.ip4}/24`);
        engine = new Engine({ workerUrl: threadIn(places.inside.name) });
        await engine.set(want(device, { endpoint: `${OUTSIDE}:${PORT}` }));
        await must(places.inside, `ip link set ${device} mtu 1420 up`);
        await addressed(places.inside, device, `${OURS.ip4}/24`);
        await countWire(places.outside);
      });
      after(async () => {
        await engine?.close();
        await go?.stop();
        removeNatPlaces(prefix);
      });

      const quietly = async (): Promise<void> => {
        const from = (await wireCount(places.outside, "in")).transports;
        const enough = async (): Promise<boolean> =>
          (await wireCount(places.outside, "in")).transports >= from + QUIET_KEEPALIVES;
        await until("keepalives came", enough);
      };

      test("without them, nobody outside reaches us once the mapping has ended", async () => {
        assert.equal(await pings(places.inside, THEIRS.ip4), true);
        await forgotten(places.router);
        assert.equal(await pings(places.outside, OURS.ip4, "-W", "0.5"), false);
      });

      test("with them, we are reached at any time though we have nothing to say", async () => {
        await engine.set(want(device, { endpoint: `${OUTSIDE}:${PORT}`, keepalive: true }));
        await quietly();
        assert.equal(await pings(places.outside, OURS.ip4), true);
      });

      test("a router that maps us to another port is followed within an interval", async () => {
        await masquerade(places.router, ":40000-40009");
        await lineLost(places.router, "10.99.7.1");
        await until("they follow", async () => (await go.endpoint()).startsWith("10.99.7.1:4000"));
        assert.equal(await pings(places.outside, OURS.ip4), true);
      });

      test("a router that gets another address is followed within an interval", async () => {
        await lineLost(places.router, "10.99.7.21");
        await until("they follow", async () => (await go.endpoint()).startsWith("10.99.7.21:"));
        assert.equal(await pings(places.outside, OURS.ip4), true);
      });
    });

    test(`wireguard-go ${program.version} behind a router is reached by us while it sends keepalives`, async (t) => {
      const mine = `exn-io-l${number}`;
      const places = await makeNatPlaces(mine);
      t.after(() => removeNatPlaces(mine));
      const engine = new Engine({ workerUrl: threadIn(places.outside.name) });
      t.after(() => engine.close());
      await engine.set(want(`${mine}a`));
      await must(places.outside, `ip link set ${mine}a mtu 1420 up`);
      await addressed(places.outside, `${mine}a`, `${OURS.ip4}/24`);
      await countWire(places.outside);
      const go = await WireguardGo.start(places.inside, `${mine}b`, program);
      t.after(() => go.stop());
      const peer = { publicKey: us.publicKey, allowedIps: OURS.ip4, endpoint: `${OUTSIDE}:${PORT}` };
      await go.configure(them, PORT, [{ ...peer, persistentKeepaliveSeconds: INTERVAL_S }]);
      await go.up(1420, `${THEIRS.ip4}/24`);
      const came = async (): Promise<boolean> => (await wireCount(places.outside, "in")).transports > QUIET_KEEPALIVES;
      await until("their keepalives came", came);
      assert.equal(await pings(places.outside, THEIRS.ip4), true);
      const { endpoint } = (await engine.state()).peers[0] ?? {};
      assert.equal(endpoint?.address, "10.99.7.1", "the router's");
    });
  }

  test("they come at their pace, and traffic takes their place", async (t) => {
    const prefix = "exn-io-p";
    const places = await makeNatPlaces(prefix);
    t.after(() => removeNatPlaces(prefix));
    const engine = new Engine({ workerUrl: threadIn(places.inside.name) });
    t.after(() => engine.close());
    const options = { identity: them, other: us.publicKey, own: THEIRS.ip4, allowedIps: [OURS.ip4] };
    const peer = await CorePeer.open(places.outside, parseEndpoint(`${OUTSIDE}:${PORT}`), options);
    t.after(() => peer.close());
    await engine.set(want(`${prefix}a`, { endpoint: `${OUTSIDE}:${PORT}`, keepalive: true }));
    await must(places.inside, `ip link set ${prefix}a mtu 1420 up`);
    await addressed(places.inside, `${prefix}a`, `${OURS.ip4}/24`);
    const transports = () => peer.heard.filter(({ type }) => type === TYPE_TRANSPORT);
    await until("five of them came", () => transports().length >= 5);
    const [first, , , , fifth] = transports();
    const pace = ((fifth?.at ?? 0) - (first?.at ?? 0)) / 4;
    assert.ok(pace > 0.5 * INTERVAL_S * SECOND && pace < 2 * INTERVAL_S * SECOND, `every ${pace} ms`);
    await must(places.inside, `ping -n -q -c 20 -i 0.2 -W 20 ${THEIRS.ip4}`);
    const [all, isPacket] = [transports(), ({ length }: { length: number }) => length > KEEPALIVE_BYTES];
    const amid = all.slice(all.findIndex(isPacket), all.findLastIndex(isPacket));
    assert.ok(amid.length > 0);
    // Where the machine made a pause between two packets, a keepalive is right.
    for (const [i, message] of amid.entries()) {
      const sinceMs = message.at - (amid[i - 1]?.at ?? 0);
      assert.ok(isPacket(message) || sinceMs > 0.5 * INTERVAL_S * SECOND, `a keepalive ${sinceMs} ms after a message`);
    }
  });
});
