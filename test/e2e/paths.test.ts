import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { expected, type Row, rowName } from "./pathrows.js";
import { EXIT_INSIDE, PathWorld, Pings } from "./pathworld.js";
import { eventually, type Ran } from "./world.js";

/**
 * Direct paths and the relay in the lab, by real routers: a few rows of the matrix that `scripts/bench paths` measures
 * whole, and what happens to traffic when a path changes. In order; each test begins from where it says.
 */

const world = new PathWorld();
const HOME_IPV4 = "203.0.113.77";
/** Inside the tunnel, through the exit node. */
const WEB = "192.0.2.80";
const ORDINARY: Row = { left: "ordinary", right: "ordinary" };
const MB = 1_000_000;
const [CHATTER_BYTES, CHATTER_MS] = [20_000, 10_000];

const whoami = async (): Promise<string> =>
  (await world.at("laptop", "curl", "-4", "-s", "-m", "30", "http://whoami.lab/")).stdout.trim();

/** A connection inside the tunnel that is open as long as so many bytes take at so many a second; curl never retries. */
const download = (bytes: number, perSecond: number): Promise<Ran> =>
  world.at(
    "laptop",
    ...["curl", "-4", "-s", "-m", "180", "--limit-rate", String(perSecond), "-o", "/dev/null"],
    ...["-w", "%{size_download}", `http://download.lab/bytes/${bytes}`],
  );
const arrived = (ran: Ran, bytes: number): void => assert.deepEqual([ran.code, ran.stdout], [0, String(bytes)]);

async function beginDirect(): Promise<void> {
  await world.begin(ORDINARY);
  assert.equal((await world.measure(ORDINARY)).path, "direct");
}

before(() => world.raise());
after(() => world.close());

describe("two networks", () => {
  test("ordinary–ordinary: the first packet is through within a second of `use`, and the path gets direct with no port forwarded", async () => {
    await world.begin(ORDINARY);
    const { path, firstPacketMs } = await world.measure(ORDINARY);
    assert.equal(path, "direct");
    assert.ok(firstPacketMs <= 1_000, `${firstPacketMs} ms`);
    assert.equal(await whoami(), HOME_IPV4);
  });

  test("symmetric–ordinary: the port is guessed, and the path direct within its time, by chance: of three tries in one", async () => {
    const row: Row = { left: "symmetric", right: "ordinary" };
    const tried: string[] = [];
    while (tried.length < 3 && !tried.includes("direct")) {
      await world.begin(row);
      const { path, firstPacketMs } = await world.measure(row);
      tried.push(path);
      assert.ok(firstPacketMs <= 2_000, `${firstPacketMs} ms`);
    }
    assert.ok(tried.includes("direct"), tried.join());
  });

  for (const { row, why } of [
    { row: { left: "symmetric", right: "symmetric" }, why: "both NATs change the port per destination" },
    { row: { left: "udp-blocked", right: "ordinary" }, why: "UDP is blocked here" },
    { row: { left: "ordinary", right: "udp-blocked" }, why: "UDP is blocked at the peer" },
  ] as const)
    test(`${rowName(row)}: traffic flows by the relay, and status says "${why}"`, async () => {
      await world.begin(row);
      const measured = await world.measure(row);
      assert.equal(measured.path, expected(row).path);
      const said = async (): Promise<boolean> => (await world.way()).why?.words === why;
      await eventually("the reason", said, expected(row).withinMs);
      assert.equal(await whoami(), HOME_IPV4);
    });

  test("netcheck in a café that blocks UDP says so, and ping replies through the relay", async () => {
    await world.begin({ left: "udp-blocked", right: "ordinary" });
    assert.match((await world.laptop("netcheck")).stdout, /^UDP +is blocked/m);
    const pinged = await world.laptop("ping", "home", "--count", "3");
    assert.equal(pinged.code, 0, pinged.stderr);
    assert.match(pinged.stderr, /^home: [\d.]+ ms, .*through (coordinator|second)$/m);
  });
});

describe("a direct path", () => {
  test("carries 20 MB of which the coordinator and the relays see nothing", async () => {
    await beginDirect();
    const before = await vpsBytes();
    const began = performance.now();
    arrived(await download(20 * MB, 20 * MB), 20 * MB);
    const through = (await vpsBytes()) - before;
    // What the agents say to coordinator and relays meanwhile is a few thousand, and more when it takes longer.
    const allowed = CHATTER_BYTES * Math.max(1, (performance.now() - began) / CHATTER_MS);
    assert.ok(through < allowed, `${through} bytes went through the vps`);
  });

  test("dies without a word: traffic is on the relay within 7 s, a TCP connection survives, and it gets direct again", async () => {
    await beginDirect();
    const open = download(24 * MB, MB);
    const { outageMs, backMs } = await world.recover();
    assert.ok(outageMs <= 7_000, `${outageMs} ms`);
    assert.ok(backMs <= 60_000, `${backMs} ms`);
    arrived(await open, 24 * MB);
  });

  test("goes on without coordinator and relays, a download included", async () => {
    await beginDirect();
    const open = download(8 * MB, 2 * MB);
    const units = ["exitnode-coordinator", "exitnode-relay"];
    try {
      assert.equal((await world.run(["lab", "exec", "vps", "--", "systemctl", "stop", ...units])).code, 0);
      arrived(await open, 8 * MB);
      assert.equal(await whoami(), HOME_IPV4);
    } finally {
      await world.run(["lab", "exec", "vps", "--", "systemctl", "start", ...units]);
    }
  });

  test("moves with the laptop from the café to a mobile network: traffic again within 3 s, and no connection is reset", async () => {
    await beginDirect();
    const open = download(10 * MB, MB);
    const pings = new Pings();
    try {
      await pings.until((replies) => replies.length > 5, 30_000);
      const from = performance.now();
      await world.json("lab", "move", "laptop", "mobile");
      const moved = performance.now();
      await pings.until((replies) => (replies.at(-1) ?? 0) > moved + 500, 30_000);
      // While the lab unplugs the laptop and plugs it in elsewhere, there is no network that could carry anything.
      const { began, ended } = pings.longestGap(from);
      const gapMs = ended - Math.max(began, moved);
      assert.ok(gapMs <= 3_000, `${gapMs} ms`);
      arrived(await open, 10 * MB);
      assert.equal(await whoami(), HOME_IPV4);
    } finally {
      await pings.stop();
      await world.json("lab", "move", "laptop", "cafe");
    }
  });

  test("over a line of 1124 bytes carries TCP, and UDP datagrams as large as the tunnel's", async () => {
    await beginDirect();
    await world.json("lab", "mtu", "cafe", "1124");
    try {
      arrived(await download(3 * MB, 20 * MB), 3 * MB);
      for (const bytes of [100, 1_000, 1_200]) {
        const asked = await world.at("laptop", "ping", "-4", "-c", "3", "-W", "2", "-s", String(bytes), WEB);
        assert.match(asked.stdout, / [1-3] received/, `${bytes} bytes: ${asked.stdout}`);
      }
      const echo = await world.at("laptop", process.execPath, "-e", ASK_DNS, "192.0.2.53");
      assert.equal(echo.code, 0, echo.stderr);
      assert.equal((await world.at("laptop", "ping", "-c", "1", "-W", "2", EXIT_INSIDE)).code, 0);
    } finally {
      await world.json("lab", "mtu", "cafe", "1500");
    }
  });
});

/** A question for whoami.lab (RFC 1035 §4.1), padded by an EDNS option (RFC 7830) to a datagram of 1200 bytes. */
const ASK_DNS = `
const name = Buffer.from("\\x06whoami\\x03lab\\0", "latin1");
const head = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
const question = Buffer.concat([head, name, Buffer.from([0, 1, 0, 1])]);
const padding = Buffer.alloc(1200 - question.length - 15);
const option = Buffer.from([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0]);
option.writeUInt16BE(padding.length + 4, 9);
option.writeUInt16BE(padding.length, 13);
const socket = require("node:dgram").createSocket("udp4");
let left = 5;
const ask = () => (left-- > 0 ? socket.send(Buffer.concat([question, option, padding]), 53, process.argv[1]) : process.exit(1));
socket.on("message", (answer) => process.exit(answer[0] === 0x12 && answer[1] === 0x34 ? 0 : 2));
ask();
setInterval(ask, 1000);
`;

/** Both ways, on the rented server's own line. */
async function vpsBytes(): Promise<number> {
  const { stdout } = await world.at("vps", "ip", "-j", "-s", "link", "show", "eth0");
  const [link] = JSON.parse(stdout) as { stats64: Record<"rx" | "tx", { bytes: number }> }[];
  assert.ok(link, stdout);
  return link.stats64.rx.bytes + link.stats64.tx.bytes;
}
