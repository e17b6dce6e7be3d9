import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { parseCidr } from "../../src/kit/ip.js";
import type { WantInterface } from "../../src/wireguard/interface.js";
import { CorePeer } from "./corepeer.js";
import { threadIn } from "./enginethread.js";
import { until } from "./patience.js";
import { makePair, must, type Place, placeOf, removePlaces } from "./places.js";
import { addressed, PORT, WIRE4 } from "./tunnel.js";
import { identityOf } from "./wireguardgo.js";

/** One interface of ours with a hundred peers, each with its own keys, its own port and its own address. */
const PLACES = ["exn-io-m1", "exn-io-m2"] as const;
const DEVICE = "exn-io-ma";
const OWN = "100.64.8.200";
const PEERS = 100;
const us = identityOf("us, with many");
const addresses = Array.from({ length: PEERS }, (_, i) => `100.64.8.${i + 1}`);

describe("a hundred peers", () => {
  let here: Place = placeOf(PLACES[0]);
  let there: Place = placeOf(PLACES[1]);
  let engine: Engine;
  let peers: CorePeer[] = [];

  const want = (found: boolean): WantInterface => ({
    name: DEVICE,
    privateKey: us.privateKey,
    listenPort: PORT,
    mtu: 1420,
    fwmark: 0,
    peers: peers.map(({ identity, own, endpoint }) => ({
      publicKey: identity.publicKey,
      allowedIps: [parseCidr(own)],
      ...(found ? { endpoint } : {}),
      persistentKeepaliveSeconds: 0,
    })),
  });
  const open = (endpoint?: string): Promise<CorePeer[]> =>
    Promise.all(
      addresses.map((own) =>
        CorePeer.open(
          there,
          { address: WIRE4.theirs, port: 0 },
          {
            identity: identityOf(own),
            other: us.publicKey,
            ...(endpoint === undefined ? {} : { endpoint }),
            own,
            allowedIps: [OWN],
          },
        ),
      ),
    );
  const raise = async (found: boolean): Promise<void> => {
    engine = new Engine({ workerUrl: threadIn(here.name) });
    await engine.set(want(found));
    await must(here, `ip link set ${DEVICE} mtu 1420 up`);
    await addressed(here, DEVICE, `${OWN}/24`);
  };
  const lower = async (): Promise<void> => {
    for (const peer of peers) peer.close();
    peers = [];
    await engine?.close();
  };

  before(async () => {
    [here, there] = await makePair(...PLACES);
  });
  after(async () => {
    await lower();
    removePlaces(...PLACES);
  });

  test("each is reached by a session that we begin, and only it gets its packets", async () => {
    peers = await open();
    await raise(true);
    const { stdout } = await here.exec.run([
      "sh",
      "-c",
      'for to in "$@"; do ping -n -q -c 1 -W 40 "$to" & done; wait',
      "sh",
      ...addresses,
    ]);
    assert.equal(stdout.match(/ 1 received/g)?.length, PEERS);
    for (const { delivered } of peers) assert.equal(delivered.length, 1);
    const state = await engine.state();
    assert.equal(state.peers.length, PEERS);
    for (const { lastHandshakeAgeMs = Infinity } of state.peers) assert.ok(lastHandshakeAgeMs < 60_000);
    assert.deepEqual(
      state.peers.map(({ endpoint }) => endpoint),
      peers.map(({ endpoint }) => endpoint),
    );
    await lower();
  });

  test("each reaches us by a session that it begins, from wherever it is", async () => {
    peers = await open(`${WIRE4.ours}:${PORT}`);
    await raise(false);
    for (const peer of peers) peer.ping(OWN);
    await until("all are answered", () => peers.every(({ replies }) => replies === 1));
    const state = await engine.state();
    assert.equal(new Set(state.peers.map(({ endpoint }) => endpoint?.port)).size, PEERS);
  });
});
