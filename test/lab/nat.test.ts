import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { CAFE_WAN, HOME_WAN, type NatKind, VPS, WEB, WEB6 } from "../../src/lab/internet.js";
import type { Site } from "../../src/lab/situation.js";
import { able, COMES_WITHIN_MS, type Heard, NatWorld, type Probe } from "./natworld.js";

/** Each kind of NAT as RFC 4787 tells them apart, by datagrams through real routers. Needs root, not the lab. */

/** What a device inside finds out about its router: with two servers, and one that it never spoke to. */
type Behaviour = {
  /** What the first server sees; undefined when nothing arrives. */
  readonly address: string | undefined;
  /** The second server sees the same port. */
  readonly samePort: boolean;
  /** Let in to the mapped port: from another port of the first server, and from a stranger. */
  readonly otherPort: boolean;
  readonly stranger: boolean;
};

const ordinary = { samePort: true, otherPort: false, stranger: false };
const none = { address: undefined, samePort: false, otherPort: false, stranger: false };

const KINDS: Record<NatKind, (site: Site) => Behaviour> = {
  open: (site) => ({ address: wanOf(site), samePort: true, otherPort: true, stranger: true }),
  "endpoint-independent": (site) => ({ address: wanOf(site), samePort: true, otherPort: true, stranger: true }),
  "address-and-port-dependent": (site) => ({ address: wanOf(site), ...ordinary }),
  symmetric: (site) => ({ address: wanOf(site), ...ordinary, samePort: false }),
  double: (site) => ({ address: site === "cafe" ? "198.51.100.120" : "203.0.113.120", ...ordinary }),
  "udp-blocked": () => none,
  "ipv6-only": () => none,
  "ipv4-only": (site) => ({ address: wanOf(site), ...ordinary }),
};

const wanOf = (site: Site): string => (site === "cafe" ? CAFE_WAN : HOME_WAN);
/** Within what routers translate, and never twice: mappings of an earlier test are still there. */
let nextPort = 40_000;

describe("kinds of NAT", { timeout: 600_000, skip: able ? false : "needs root on Linux" }, () => {
  const world = new NatWorld("nat");
  const probes: Record<string, Probe> = {};
  const probe = (place: string): Probe => {
    const found = probes[place];
    assert.ok(found, place);
    return found;
  };

  before(async () => {
    world.raise();
    for (const place of ["laptop", "nas", "web", "vps", "core"]) probes[place] = await world.probe(place);
    for (const [place, port] of [
      ["web", 7000],
      ["web", 7001],
      ["vps", 7000],
    ] as const)
      await probe(place).listen(port);
  });
  after(() => world.lower());

  /** What is expected to come is waited for; what is not has its time as well. */
  async function observe(inside: Probe, wanted: Behaviour): Promise<Behaviour> {
    const port = nextPort++;
    const hello = `hello ${port}`;
    await Promise.all([WEB, VPS].map((server) => inside.send(port, server, 7000, hello)));
    const seen: Heard | undefined = await probe("web").hears(
      hello,
      wanted.address === undefined ? 600 : COMES_WITHIN_MS,
    );
    if (seen === undefined) return none;
    const other = await probe("vps").hears(hello, COMES_WITHIN_MS);
    await probe("web").send(7001, seen.from, seen.port, `other port ${port}`);
    await probe("core").send(7000, seen.from, seen.port, `stranger ${port}`);
    // Sent last and certain to be let in: what was sent before and is not there by then was dropped.
    await probe("web").send(7000, seen.from, seen.port, `answer ${port}`);
    const answer = await inside.hears(`answer ${port}`, COMES_WITHIN_MS);
    assert.ok(answer, "the server that was asked gets its answer through");
    const heard = async (text: string, comes: boolean): Promise<boolean> =>
      (await inside.hears(`${text} ${port}`, comes ? COMES_WITHIN_MS : 0)) !== undefined;
    return {
      address: seen.from,
      samePort: other?.port === seen.port,
      otherPort: await heard("other port", wanted.otherPort),
      stranger: await heard("stranger", wanted.stranger),
    };
  }

  for (const kind of Object.keys(KINDS) as NatKind[]) {
    test(`the café as ${kind} behaves so, seen from the laptop`, async () => {
      await world.change((now) => ({ ...now, cafe: { ...now.cafe, nat: kind } }));
      const wanted = KINDS[kind]("cafe");
      assert.deepEqual(await observe(probe("laptop"), wanted), wanted);
      for (const [to, goes] of [
        [WEB, kind !== "ipv6-only"],
        [WEB6, kind !== "ipv4-only"],
      ] as const)
        assert.equal(connects("laptop", to, goes), goes, `TCP to ${to}`);
    });
  }

  // One-to-one hands everything to the exit node, which is not here.
  for (const kind of (Object.keys(KINDS) as NatKind[]).filter((one) => one !== "open")) {
    test(`the home as ${kind} behaves so, seen from the home server`, async () => {
      await world.change((now) => ({ ...now, home: { ...now.home, nat: kind } }));
      const wanted = KINDS[kind]("home");
      assert.deepEqual(await observe(probe("nas"), wanted), wanted);
    });
  }

  for (const [kind, comes] of [
    ["open", true],
    ["address-and-port-dependent", false],
    ["endpoint-independent", false],
    ["udp-blocked", false],
  ] as const) {
    test(`IPv6 that nobody in the café asked for ${comes ? "comes in" : "is dropped"} with ${kind}`, async () => {
      await world.change((now) => ({ ...now, cafe: { ...now.cafe, nat: kind } }));
      const port = nextPort++;
      await probe("laptop").listen(port);
      await probe("web").send(7000, "2001:db8:88:1::50", port, `six ${port}`);
      assert.equal((await probe("laptop").hears(`six ${port}`, comes ? COMES_WITHIN_MS : 200)) !== undefined, comes);
    });
  }

  test("behind two NATs the router has an address of the provider's own, which no server sees", async () => {
    await world.change((now) => ({ ...now, home: { ...now.home, nat: "double" } }));
    const shown = world.run("home", "ip", "-4", "-br", "address", "show", "wan");
    assert.deepEqual([shown.includes("198.18.65.2/29"), shown.includes(HOME_WAN)], [true, false]);
  });

  /** Whether the server's closed port refuses; when there is no way, nothing comes back. */
  function connects(place: string, to: string, expected: boolean): boolean {
    const withinMs = expected ? COMES_WITHIN_MS : 500;
    const refused = `require("net").connect(9, "${to}").on("error", (e) => process.stdout.write(e.code)).setTimeout(${withinMs}, () => process.exit())`;
    return world.run(place, process.execPath, "-e", refused) === "ECONNREFUSED";
  }
});
