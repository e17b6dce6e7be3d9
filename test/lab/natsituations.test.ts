import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fromHex } from "../../src/kit/bytes.js";
import { EXIT, HOME_LISTED_WAN, HOME_WAN, VPS, WEB, WEB6 } from "../../src/lab/internet.js";
import { RUN_DIR } from "../../src/lab/places.js";
import { servicesOf } from "../../src/lab/services.js";
import { type SiteSituation, situate, USUAL } from "../../src/lab/situation.js";
import { topology } from "../../src/lab/topology.js";
import { able, COMES_WITHIN_MS, NatWorld, type Probe } from "./natworld.js";

/** What else can happen to the lab's lines and routers, each by real packets. Needs root, not the lab. */

describe("situations", { timeout: 600_000, skip: able ? false : "needs root on Linux" }, () => {
  const world = new NatWorld("sit");
  const probes: Record<string, Probe> = {};
  const probe = (place: string): Probe => {
    const found = probes[place];
    assert.ok(found, place);
    return found;
  };
  const usual = (): Promise<void> => world.change(() => USUAL);
  const cafe = (values: Partial<SiteSituation>): Promise<void> =>
    world.change((now) => ({ ...now, cafe: { ...now.cafe, ...values } }));

  before(async () => {
    world.raise();
    for (const place of ["laptop", "nas", "web", "vps"]) probes[place] = await world.probe(place);
    for (const place of ["web", "vps"]) await probe(place).listen(7000);
  });
  after(() => world.lower());

  let count = 0;
  type Way = readonly [from: Probe, port: number, to: Probe, address: string, toPort: number];
  async function reaches(withinMs: number, ...[from, port, to, address, toPort]: Way): Promise<boolean> {
    const text = `datagram ${count++}`;
    await from.send(port, address, toPort, text);
    return (await to.hears(text, withinMs)) !== undefined;
  }
  const comes = async (...way: Way): Promise<void> => assert.ok(await reaches(COMES_WITHIN_MS, ...way), "it comes");
  const isDropped = async (...way: Way): Promise<void> => assert.ok(!(await reaches(400, ...way)), "it is dropped");
  /** The address a server sees the laptop under. */
  async function seenFrom(server: string, address: string, withinMs = COMES_WITHIN_MS): Promise<string | undefined> {
    const text = `who ${count++}`;
    await probe("laptop").send(41_000 + count, address, 7000, text);
    return (await probe(server).hears(text, withinMs))?.from;
  }

  test("a port forward of the home router is there by default, and gone with `--forward no`", async () => {
    world.run("nas", "ip", "address", "add", `${EXIT}/32`, "dev", "eth0");
    await probe("nas").listen(51820);
    await comes(probe("laptop"), 42_000, probe("nas"), HOME_WAN, 51820);
    await world.change((now) => ({ ...now, forward: false }));
    await isDropped(probe("laptop"), 42_001, probe("nas"), HOME_WAN, 51820);
    await usual();
    world.run("nas", "ip", "address", "delete", `${EXIT}/32`, "dev", "eth0");
  });

  test("another kind of NAT is there for a connection that is under way, too", async () => {
    const port = 46_000;
    const mapped = async (text: string): Promise<number | undefined> => {
      await probe("laptop").send(port, WEB, 7000, text);
      return (await probe("web").hears(text, COMES_WITHIN_MS))?.port;
    };
    assert.equal(await mapped("as an ordinary NAT"), port);
    await cafe({ nat: "symmetric" });
    const random = await mapped("as a symmetric NAT");
    assert.ok(random !== undefined && random !== port, `port ${random}`);
    await usual();
    assert.equal(await mapped("as an ordinary NAT once more"), port);
  });

  test("the laptop moves: other addresses, another router, and its link goes and comes", async () => {
    const changes = (): number => Number(world.run("laptop", "cat", "/sys/class/net/eth0/carrier_changes"));
    const before = changes();
    await world.change((now) => ({ ...now, laptopAt: "mobile" }));
    assert.equal(changes() - before, 2, "down and up");
    assert.equal(await seenFrom("web", WEB), "192.0.2.130");
    assert.equal(await seenFrom("web", WEB6), "2001:db8:99:1::50");
    assert.match(world.run("laptop", "cat", "/etc/resolv.conf"), /nameserver 198\.18\.99\.1\n/);
    await world.change((now) => ({ ...now, laptopAt: "home" }));
    assert.equal(await seenFrom("web", WEB), HOME_WAN);
    await isDropped(probe("laptop"), 42_010, probe("nas"), "198.18.77.20", 42_010); // no listener
    await probe("nas").listen(42_011);
    await comes(probe("laptop"), 42_010, probe("nas"), "198.18.77.20", 42_011); // one LAN
    await usual();
    assert.equal(await seenFrom("web", WEB), "198.51.100.88");
  });

  test("with direct-cut UDP between the homes vanishes in both families, and servers still answer", async () => {
    await probe("nas").listen(43_000);
    await world.change((now) => ({ ...now, forward: false, home: { ...now.home, nat: "endpoint-independent" } }));
    await probe("nas").send(43_000, VPS, 7000, "map");
    assert.ok(await probe("vps").hears("map", COMES_WITHIN_MS));
    const direct = (port: number): Way => [probe("laptop"), port, probe("nas"), HOME_WAN, 43_000];
    await comes(...direct(43_001));
    await cafe({ link: "direct-cut" });
    await isDropped(...direct(43_002));
    assert.equal(await seenFrom("vps", VPS), "198.51.100.88");
    assert.equal(await seenFrom("web", WEB6), "2001:db8:88:1::50");
    await cafe({ link: "up" });
    await comes(...direct(43_003));
    await usual();
  });

  test("a line that is down is silent, and works again when it is up", async () => {
    await cafe({ link: "down" });
    assert.equal(await seenFrom("web", WEB, 600), undefined);
    await cafe({ link: "up" });
    assert.equal(await seenFrom("web", WEB), "198.51.100.88");
  });

  test("of 400 pings over a line that loses 30 percent per direction about half come back", async () => {
    await cafe({ lossPercent: 30 });
    // `ping` fails when nothing comes back; with these numbers that would be a broken random source.
    const out = world.run("laptop", "ping", "-q", "-f", "-c", "400", "-W", "1", WEB);
    const received = Number(/(\d+) received/.exec(out)?.[1]);
    // 0.7 × 0.7 × 400 = 196, standard deviation 10: seven of them either way.
    assert.ok(received > 126 && received < 266, `${received} of 400`);
    await usual();
    assert.match(world.run("laptop", "ping", "-q", "-f", "-c", "100", WEB), /100 received/);
  });

  test("a narrow line tells the size that fits, and a mute one tells nothing", async () => {
    const ping = (to: string, bytes: number, seconds = 10): string =>
      world.run("laptop", "sh", "-c", `ping -c1 -W${seconds} -M do -s ${bytes} ${to} 2>&1 || true`);
    await cafe({ mtu: 1280 });
    assert.match(ping(WEB, 1300), /mtu = 1280/);
    assert.match(ping(WEB6, 1300), /mtu[= ]+1280/);
    assert.match(ping(WEB, 1280 - 28), /1 received/);
    await cafe({ muteTooBig: true });
    const mute = ping(VPS, 1300, 1);
    assert.match(mute, /100% packet loss/);
    assert.doesNotMatch(mute, /mtu/);
    assert.match(ping(VPS, 1280 - 28), /1 received/);
    await usual();
    // Learned sizes last ten minutes; the vps was never told one.
    assert.match(ping(VPS, 1472), /1 received/);
  });

  describe("UPnP, NAT-PMP and PCP", { skip: existsSync("/usr/sbin/miniupnpd") ? false : "needs miniupnpd" }, () => {
    const folder = mkdtempSync(join(tmpdir(), "exn-upnp-"));
    const router = "198.18.77.1";
    let daemon: ChildProcess | undefined;

    before(async () => {
      await world.change((now) => ({ ...now, upnp: true, forward: false }));
      const service = servicesOf(situate(topology, { ...USUAL, upnp: true }), USUAL, []).find(
        ({ name }) => name === "upnp-home",
      );
      assert.ok(service);
      const own = (text: string): string => text.replaceAll(RUN_DIR, folder);
      for (const [path, text] of Object.entries(service.files)) writeFileSync(own(path), text);
      const argv = ["netns", "exec", world.namespace("home"), ...service.argv.map(own)];
      daemon = spawn("ip", argv, { stdio: ["ignore", "pipe", "pipe"] });
      let told = "";
      for (const stream of [daemon.stdout, daemon.stderr])
        stream?.on("data", (data) => {
          told += data;
        });
      while (!/Listening for NAT-PMP/.test(told)) {
        assert.equal(daemon.exitCode, null, told);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    after(async () => {
      daemon?.kill();
      if (daemon?.exitCode === null && daemon.signalCode === null) await once(daemon, "exit");
      rmSync(folder, { recursive: true });
      await usual();
    });

    /** RFC 6886 §3.3: version 0, operation 1 (UDP), reserved, both ports, lifetime; the answer has operation 129. */
    const request = (port: number, seconds: number): string =>
      `00010000${hex(port, 4)}${hex(seconds === 0 ? 0 : port, 4)}${hex(seconds, 8)}`;

    /** One datagram to the router and its answer, in hex. */
    function ask(bytes: string): string {
      const script = `const u = require("dgram").createSocket("udp4");
        u.on("message", (m) => { process.stdout.write(m.toString("hex")); process.exit(); });
        u.send(Buffer.from("${bytes}", "hex"), 5351, "${router}"); setTimeout(() => process.exit(1), 20000);`;
      return world.run("nas", process.execPath, "-e", script);
    }

    test("the router tells its public address, which servers see too", async () => {
      const answer = fromHex(ask("0000"));
      assert.ok(answer);
      assert.equal(answer.slice(8, 12).join("."), HOME_LISTED_WAN);
      await probe("nas").send(44_000, WEB, 7000, "public?");
      assert.equal((await probe("web").hears("public?", COMES_WITHIN_MS))?.from, HOME_LISTED_WAN);
    });

    test("a datagram comes in on a mapped port, on none before, and on none after its removal", async () => {
      await probe("nas").listen(44_001);
      const way = (port: number): Way => [probe("web"), port, probe("nas"), HOME_LISTED_WAN, 44_001];
      await isDropped(...way(44_010));
      assert.match(
        ask(request(44_001, 3600)),
        new RegExp(`^00810000.{8}${hex(44_001, 4)}${hex(44_001, 4)}${hex(3600, 8)}$`),
      );
      await comes(...way(44_011));
      assert.match(ask(request(44_001, 0)), /^00810000/);
      await isDropped(...way(44_012));
    });

    test("a mapping ends with its lease", async () => {
      await probe("nas").listen(44_002);
      const leaseSeconds = 5;
      ask(request(44_002, leaseSeconds));
      let port = 44_020;
      const way = (): Way => [probe("web"), port++, probe("nas"), HOME_LISTED_WAN, 44_002];
      await comes(...way());
      const deadline = AbortSignal.timeout(10_000 * leaseSeconds);
      // One port after the other, with a rest between them: a process has a thousand sockets and no more.
      while (await reaches(400, ...way())) {
        assert.equal(deadline.aborted, false, "still open after ten leases");
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    });

    test("PCP answers on the same port", () => {
      // RFC 6887 §7.1: version 2, ANNOUNCE, reserved, lifetime, the client's address as IPv4-mapped IPv6.
      const announce = `02000000${"00000000"}${"00".repeat(10)}ffffc6124d14`;
      assert.match(ask(announce), /^0280/);
    });
  });
});

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, "0");
