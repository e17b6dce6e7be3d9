import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { Engine } from "../../src/engine/engine.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { SECOND } from "../../src/kit/time.js";
import { REKEY_AFTER_MS, REKEY_JITTER_MS, REKEY_TIMEOUT_MS } from "../../src/wireguard/constants.js";
import { CorePeer, type CorePeerOptions } from "./corepeer.js";
import { threadIn } from "./enginethread.js";
import { until } from "./patience.js";
import { makePair, must, type Place, pings, removePlaces } from "./places.js";
import { addressed, OURS, PORT, THEIRS, WIRE4 } from "./tunnel.js";
import { countWire, wireCount } from "./wirecount.js";
import { type Identity, identityOf, PROGRAMS, WireguardGo } from "./wireguardgo.js";

/**
 * A peer whose clock can be set: our protocol core, against both engines. Its wall clock is behind after a restart, as
 * on a machine without a battery; its monotonic clock is ahead, so that renewal needs no two minutes.
 */
const AN_ATTEMPT_MS = REKEY_TIMEOUT_MS + REKEY_JITTER_MS + 1;
/** Both clocks go on meanwhile: far more than a step takes on a busy machine. */
const BEHIND_MS = 30 * SECOND;
const AT = { address: WIRE4.ours, port: 0 } as const;

for (const [number, program] of PROGRAMS.entries())
  describe(`before wireguard-go ${program.version}`, () => {
    const prefix = `exn-io-f${number}`;
    let here: Place;
    let go: WireguardGo;
    let us: Identity;
    let options: CorePeerOptions;
    const them = identityOf("them with a clock");
    before(async () => {
      let there: Place;
      [here, there] = await makePair(`${prefix}1`, `${prefix}2`);
      go = await WireguardGo.start(there, `${prefix}b`, program);
    });
    after(async () => {
      await go?.stop();
      removePlaces(`${prefix}1`, `${prefix}2`);
    });
    let serial = 0;
    beforeEach(async () => {
      us = identityOf(`us with a clock ${serial++}`);
      await go.configure(them, PORT, [{ publicKey: us.publicKey, allowedIps: OURS.ip4 }]);
      await go.up(1420);
      await addressed(go.place, go.device, `${THEIRS.ip4}/24`);
      go.forget();
      options = {
        identity: us,
        other: them.publicKey,
        endpoint: `${WIRE4.theirs}:${PORT}`,
        own: OURS.ip4,
        allowedIps: [THEIRS.ip4],
      };
    });

    test("a peer that restarts with an older clock is refused until its clock has passed", async (t) => {
      await knownFrom(here, options);
      const peer = await CorePeer.open(here, AT, { ...options, wallOffsetMs: -AN_ATTEMPT_MS - BEHIND_MS });
      t.after(() => peer.close());
      peer.ping(THEIRS.ip4);
      await go.says("handshake replay", 1);
      peer.passTime(AN_ATTEMPT_MS);
      await go.says("handshake replay", 2);
      assert.equal(peer.heard.length, 0, "nothing answers it");
      peer.passTime(BEHIND_MS + SECOND);
      await peer.pings(THEIRS.ip4);
      await until("the packet that waited is answered too", () => peer.replies === 2);
    });

    test("a peer whose clock is behind is still reached by the sessions that they begin", async (t) => {
      await knownFrom(here, options);
      const peer = await CorePeer.open(here, { ...AT, port: 0 }, { ...options, wallOffsetMs: -3_600 * SECOND });
      t.after(() => peer.close());
      peer.ping(THEIRS.ip4);
      await go.says("handshake replay", 1);
      await go.wg(`set DEVICE peer ${us.publicKey} remove`);
      await go.wg(
        `set DEVICE peer ${us.publicKey} endpoint ${WIRE4.ours}:${peer.endpoint.port} allowed-ips ${OURS.ip4}/32`,
      );
      assert.equal(await pings(go.place, OURS.ip4), true);
    });

    test("a session that is two minutes old is renewed by its initiator alone, between two packets", async (t) => {
      const peer = await CorePeer.open(here, AT, options);
      t.after(() => peer.close());
      await peer.pings(THEIRS.ip4);
      peer.passTime(REKEY_AFTER_MS - 10 * SECOND);
      await peer.pings(THEIRS.ip4);
      assert.equal(go.count("Received handshake initiation"), 1, "not yet");
      peer.passTime(10 * SECOND);
      await peer.pings(THEIRS.ip4);
      await go.says("Received handshake initiation", 2);
      await peer.pings(THEIRS.ip4);
      assert.equal(await pings(go.place, OURS.ip4), true);
      assert.equal(go.count("Sending handshake initiation"), 0);
    });
  });

test("our engine refuses a peer that restarted with an older clock until its clock has passed", async (t) => {
  const places = ["exn-io-g1", "exn-io-g2"] as const;
  const [here, there] = await makePair(...places);
  t.after(() => removePlaces(...places));
  const us = identityOf("our engine with a clock");
  const identity = identityOf("a peer of our engine");
  const engine: Engine = new Engine({ workerUrl: threadIn(here.name) });
  t.after(() => engine.close());
  await engine.set({
    name: "exn-io-ga",
    privateKey: us.privateKey,
    listenPort: PORT,
    mtu: 1420,
    fwmark: 0,
    peers: [{ publicKey: identity.publicKey, allowedIps: [parseCidr(THEIRS.ip4)], persistentKeepaliveSeconds: 0 }],
  });
  await must(here, "ip link set exn-io-ga mtu 1420 up");
  await addressed(here, "exn-io-ga", `${OURS.ip4}/24`);
  const at = { address: WIRE4.theirs, port: 0 } as const;
  const endpoint = `${WIRE4.ours}:${PORT}`;
  const options = { identity, other: us.publicKey, endpoint, own: THEIRS.ip4, allowedIps: [OURS.ip4] };
  const first = await CorePeer.open(there, at, options);
  await first.pings(OURS.ip4);
  first.close();

  await countWire(here);
  const peer = await CorePeer.open(there, at, { ...options, wallOffsetMs: -BEHIND_MS });
  t.after(() => peer.close());
  peer.ping(OURS.ip4);
  await until("its initiation came", async () => (await wireCount(here, "in")).initiations > 0);
  // The engine's thread reads its sockets before it answers.
  await engine.state();
  assert.equal((await wireCount(here, "out")).responses, 0);
  peer.passTime(BEHIND_MS + SECOND);
  await peer.pings(OURS.ip4);
  assert.deepEqual(parseEndpoint(`${WIRE4.theirs}:${peer.endpoint.port}`), (await engine.state()).peers[0]?.endpoint);
});

/** A session that ended: the others remember when it began. */
async function knownFrom(place: Place, options: CorePeerOptions): Promise<void> {
  const peer = await CorePeer.open(place, AT, options);
  await peer.pings(THEIRS.ip4);
  peer.close();
}
