import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { parseCidr } from "../../src/kit/ip.js";
import type { WantPeer } from "../../src/wireguard/interface.js";
import { CorePeer } from "./corepeer.js";
import { until } from "./patience.js";
import { must, pings } from "./places.js";
import { OURS, PORT, THEIRS, Tunnel, WIRE4 } from "./tunnel.js";
import { countWire, wireCount } from "./wirecount.js";
import { type Identity, identityOf, NEWER } from "./wireguardgo.js";

/** What WireGuard's own self-test does to the table of peers: two of them, wireguard-go and a core, share addresses. */
const NOBODYS = "100.64.7.77";

describe("peers of one interface", () => {
  let tunnel: Tunnel;
  let third: Identity;
  let core: CorePeer;
  before(async () => {
    tunnel = await Tunnel.open("exn-io-q", NEWER);
    await tunnel.connect({ theirEndpoint: `${WIRE4.theirs}:${PORT}` });
    // Whatever wireguard-go's machine is asked for, it has.
    await must(tunnel.there, `ip address add ${NOBODYS}/32 dev ${tunnel.go.device}`);
    third = identityOf("the third");
  });
  after(async () => {
    core?.close();
    await tunnel?.close();
  });

  let serial = 0;
  beforeEach(async () => {
    core?.close();
    tunnel.us = identityOf(`us among three ${serial++}`);
    await tunnel.go.configure(tunnel.them, PORT, [{ publicKey: tunnel.us.publicKey, allowedIps: "100.64.7.0/24" }]);
    core = await CorePeer.open(
      tunnel.there,
      { address: WIRE4.theirs, port: 0 },
      { identity: third, other: tunnel.us.publicKey, own: NOBODYS, allowedIps: ["100.64.7.0/24"] },
    );
    await tunnel.set({ privateKey: tunnel.us.privateKey, peers: [] });
  });

  const theirs = (...allowedIps: string[]): WantPeer => ({
    ...tunnel.ourPeer({ theirEndpoint: `${WIRE4.theirs}:${PORT}` }),
    allowedIps: allowedIps.map(parseCidr),
  });
  const thirds = (...allowedIps: string[]): WantPeer => ({
    publicKey: third.publicKey,
    endpoint: core.endpoint,
    allowedIps: allowedIps.map(parseCidr),
    persistentKeepaliveSeconds: 0,
  });
  /** Who answers a ping of that address: waited for, or, where nobody should, for a moment. */
  const answers = async (address: string, ...options: string[]): Promise<"them" | "third" | "nobody"> => {
    const before = core.delivered.length;
    if (!(await pings(tunnel.here, address, ...options))) return "nobody";
    return core.delivered.length > before ? "third" : "them";
  };
  const SOON = ["-W", "0.7"];

  test("the peer with the longest prefix gets a packet, whichever was named first", async () => {
    await tunnel.set({ peers: [thirds(`${NOBODYS}/32`), theirs("100.64.7.0/24")] });
    assert.deepEqual([await answers(THEIRS.ip4), await answers(NOBODYS)], ["them", "third"]);
    await tunnel.set({ peers: [theirs("100.64.7.0/24"), thirds("100.64.7.64/27")] });
    assert.deepEqual([await answers(THEIRS.ip4), await answers(NOBODYS)], ["them", "third"]);
  });

  test("an address that moves to another peer is reached there, and from there alone", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4, NOBODYS), thirds()] });
    assert.equal(await answers(NOBODYS), "them");
    await tunnel.set({ peers: [theirs(THEIRS.ip4), thirds(NOBODYS)] });
    assert.equal(await answers(NOBODYS), "third");
    assert.equal(await pings(tunnel.there, OURS.ip4, "-W", "0.5", "-I", NOBODYS), false, "no longer theirs to use");
    assert.equal(await pings(tunnel.there, OURS.ip4, "-I", THEIRS.ip4), true);
    await tunnel.set({ peers: [theirs(THEIRS.ip4, NOBODYS), thirds()] });
    assert.equal(await answers(NOBODYS), "them");
    assert.equal(await pings(tunnel.there, OURS.ip4, "-I", NOBODYS), true);
  });

  test("a prefix that two peers name belongs to the later one, and to the other when that one goes", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4, NOBODYS), thirds(NOBODYS)] });
    assert.equal(await answers(NOBODYS), "third");
    await tunnel.set({ peers: [theirs(THEIRS.ip4, NOBODYS)] });
    assert.equal(await answers(NOBODYS), "them");
  });

  test("a packet for an address that is no peer's is dropped without a word", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4)] });
    assert.equal(await answers(THEIRS.ip4), "them");
    const { stdout } = await tunnel.here.exec.run(["ping", "-n", "-c", "1", "-W", "0.5", "100.64.7.200"]);
    assert.match(stdout, / 0 received/);
    assert.doesNotMatch(stdout, /Unreachable|errors/);
  });

  test("a peer with our own key is nobody: it takes no address and is not listed", async () => {
    const ourselves = { ...thirds("0.0.0.0/0", NOBODYS), publicKey: tunnel.us.publicKey };
    await tunnel.set({ peers: [theirs("100.64.7.0/24"), ourselves] });
    assert.deepEqual([await answers(THEIRS.ip4), await answers(NOBODYS)], ["them", "them"]);
    assert.deepEqual(
      (await tunnel.engine.state()).peers.map(({ publicKey }) => publicKey),
      [tunnel.them.publicKey],
    );
  });

  test("another private key is another device to its peers, and the first one is known again", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4)] });
    assert.equal(await answers(THEIRS.ip4), "them");
    const first = tunnel.us.privateKey;
    await tunnel.set({ privateKey: identityOf("somebody else").privateKey });
    assert.equal(await answers(THEIRS.ip4, ...SOON), "nobody");
    assert.equal((await tunnel.peer()).lastHandshakeAgeMs, undefined);
    await tunnel.set({ privateKey: first });
    assert.equal(await answers(THEIRS.ip4), "them");
  });

  test("a private key that was a peer's makes that peer ourselves: it is gone, the other works", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4), thirds(NOBODYS)] });
    assert.equal(await answers(NOBODYS), "third");
    const go = { publicKey: third.publicKey, allowedIps: "100.64.7.0/24" };
    await tunnel.go.configure(tunnel.them, PORT, [go]);
    await tunnel.set({ privateKey: third.privateKey });
    assert.deepEqual([await answers(THEIRS.ip4), await answers(NOBODYS, ...SOON)], ["them", "nobody"]);
    assert.equal((await tunnel.engine.state()).peers.length, 1);
  });

  test("a peer that removes us hears nothing, and works at once when it adds us again and speaks first", async () => {
    await tunnel.set({ peers: [theirs(THEIRS.ip4)] });
    assert.equal(await answers(THEIRS.ip4), "them");
    await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} remove`);
    assert.equal(await answers(THEIRS.ip4, ...SOON), "nobody");
    const again = `endpoint ${WIRE4.ours}:${PORT} allowed-ips ${OURS.ip4}/32`;
    await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} ${again}`);
    assert.equal(await pings(tunnel.there, OURS.ip4, "-W", "4"), true);
    assert.equal(await answers(THEIRS.ip4), "them");
  });

  test("a keepalive is no packet to the machine, and an interval of zero ends them", async () => {
    const given = async (): Promise<string> =>
      must(tunnel.here, `cat /sys/class/net/${tunnel.device}/statistics/rx_packets`);
    await tunnel.set({ peers: [theirs(THEIRS.ip4)] });
    assert.equal(await answers(THEIRS.ip4), "them");
    await countWire(tunnel.here);
    const before = await given();
    const count = async (direction: "in" | "out") => (await wireCount(tunnel.here, direction)).transports;
    await tunnel.set({ peers: [{ ...theirs(THEIRS.ip4), persistentKeepaliveSeconds: 1 }] });
    await until("two keepalives left", async () => (await count("out")) >= 2);
    await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} persistent-keepalive 1`);
    await tunnel.set({ peers: [theirs(THEIRS.ip4)] });
    const [out, into] = [await count("out"), await count("in")];
    // Theirs are the clock that ours stand still by.
    await until("three of theirs came", async () => (await count("in")) >= into + 3);
    assert.equal(await count("out"), out);
    assert.equal(await given(), before);
    await tunnel.go.wg(`set DEVICE peer ${tunnel.us.publicKey} persistent-keepalive 0`);
  });
});
