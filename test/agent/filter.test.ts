import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { keepFilter, setFilter } from "../../src/agent/filter.js";
import { type Cidr, parseCidr } from "../../src/kit/ip.js";
import { FILTER_TABLE, type Rule } from "../../src/netconf/filter.js";
import { type Exec, localExec, mustRun } from "../../src/sys/exec.js";
import { until } from "../engine/patience.js";
import { removePlaces } from "../engine/places.js";

/**
 * Three places in a row: a peer, the machine with the filter, and a server behind it. The tunnel is a plain link of
 * the tunnel's name: the filter sees no more of it than that.
 */
const PEER = "exn-po-peer";
const SELF = "exn-po-self";
const LAN = "exn-po-lan";
const DEVICE = "exn0";
const LIMIT = { timeout: 120_000 };

const inside = (place: string): Exec => ({
  run: (argv, options) => localExec.run(["ip", "netns", "exec", place, ...argv], options),
});
const must = (place: string, line: string): Promise<string> => mustRun(inside(place), line.split(" "));
const children: ChildProcess[] = [];

function close(): void {
  for (const child of children) child.kill("SIGKILL");
  removePlaces(PEER, SELF, LAN);
}

before(async () => {
  close();
  for (const place of [PEER, SELF, LAN]) {
    await mustRun(localExec, ["ip", "netns", "add", place]);
    await must(place, "ip link set lo up");
    // Neighbour discovery is no traffic of the tunnel's: both ends know each other from the start.
    await must(place, "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0");
  }
  await must(
    PEER,
    `ip link add ${DEVICE} address 02:00:00:00:00:01 type veth peer name ${DEVICE} address 02:00:00:00:00:02 netns ${SELF}`,
  );
  await must(SELF, `ip link add lan0 type veth peer name lan0 netns ${LAN}`);
  for (const [place, own, other, mac] of [
    [PEER, 1, 2, "02:00:00:00:00:02"],
    [SELF, 2, 1, "02:00:00:00:00:01"],
  ] as const) {
    await must(place, `ip address add 100.64.0.${own}/24 dev ${DEVICE}`);
    await must(place, `ip address add fd00:64::${own}/64 dev ${DEVICE} nodad`);
    await must(place, `ip link set ${DEVICE} up`);
    await must(place, `ip neigh replace 100.64.0.${other} lladdr ${mac} dev ${DEVICE} nud permanent`);
    await must(place, `ip neigh replace fd00:64::${other} lladdr ${mac} dev ${DEVICE} nud permanent`);
  }
  for (const [place, own] of [
    [SELF, 1],
    [LAN, 2],
  ] as const) {
    await must(place, `ip address add 192.168.9.${own}/24 dev lan0`);
    await must(place, "ip link set lan0 up");
  }
  await must(SELF, "sysctl -qw net.ipv4.ip_forward=1");
  await must(PEER, "ip route add 192.168.9.0/24 via 100.64.0.2");
  await must(LAN, "ip route add 100.64.0.0/24 via 192.168.9.1");
  for (const [place, port] of [
    [SELF, 7001],
    [SELF, 7002],
    [LAN, 7001],
    [LAN, 7002],
    [PEER, 7003],
  ] as const)
    await serve(place, port);
});
after(close);

/** A server that answers every line with itself, on both families. */
function serve(place: string, port: number): Promise<void> {
  const program = `require("node:net").createServer((s) => { s.on("error", () => {}); s.pipe(s); })
    .listen(${port}, "::", () => console.log("ready"))`;
  return started(place, program, "ready");
}

function started(place: string, program: string, word: string): Promise<void> {
  const child = spawn("ip", ["netns", "exec", place, process.execPath, "-e", program]);
  children.push(child);
  return new Promise((resolve, reject) => {
    child.stdout.on("data", (data) => String(data).includes(word) && resolve());
    child.on("exit", (code) => reject(new Error(`the program ended with ${code}`)));
  });
}

/** How long what is to answer may take on a busy machine, and how long what is not is listened to. */
const [PATIENCE_MS, SILENCE_MS] = [30_000, 1_000];

/** What comes of a line that is sent there. */
async function said(from: string, address: string, port: number, withinMs: number): Promise<string> {
  const program = `const s = require("node:net").connect(${port}, "${address}");
    s.on("connect", () => s.write("hello\\n")); s.on("data", () => { console.log("answered"); process.exit(); });
    s.on("error", (e) => { console.log(e.code); process.exit(); });
    setTimeout(() => { console.log("silent"); process.exit(); }, ${withinMs})`;
  return (await inside(from).run([process.execPath, "-e", program])).stdout.trim();
}

async function answers(from: string, address: string, port: number): Promise<void> {
  assert.equal(await said(from, address, port, PATIENCE_MS), "answered", `${address} port ${port}`);
}

async function isSilent(from: string, address: string, port: number): Promise<void> {
  assert.equal(await said(from, address, port, SILENCE_MS), "silent", `${address} port ${port}`);
}

const pinged = async (address: string, withinMs: number): Promise<boolean> =>
  (await inside(PEER).run(["ping", "-c", "1", "-W", `${withinMs / 1_000}`, address])).exitCode === 0;
const pings = async (address: string): Promise<void> => assert.ok(await pinged(address, PATIENCE_MS), address);
const pingsNot = async (address: string): Promise<void> => assert.ok(!(await pinged(address, SILENCE_MS)), address);

/**
 * Starts a program that, asked, says how much it heard since then; whether that is anything. What was sent before may
 * still lie in its socket, and counts as well.
 */
function listenerIn(place: string, program: string): () => Promise<boolean> {
  const child = spawn("ip", ["netns", "exec", place, process.execPath, "-e", program]);
  children.push(child);
  return async () => {
    const line = once(child.stdout, "data");
    child.stdin.write("\n");
    return !/heard 0/.test(String(await line));
  };
}

const set = (...rules: Rule[]): Promise<void> => setFilter(inside(SELF), DEVICE, rules);
const cidrs = (...texts: string[]): Cidr[] => texts.map(parseCidr);
const from = cidrs("100.64.0.1", "fd00:64::1");
const to = cidrs("100.64.0.2", "fd00:64::2");
const tcp7001: Rule = { from, to, protocol: "tcp", ports: [[7001, 7001]] };

test("the allowed port answers over both families; another port and a ping do not", LIMIT, async () => {
  await set(tcp7001);
  await Promise.all([
    answers(PEER, "100.64.0.2", 7001),
    answers(PEER, "fd00:64::2", 7001),
    isSilent(PEER, "100.64.0.2", 7002),
    isSilent(PEER, "fd00:64::2", 7002),
    pingsNot("100.64.0.2"),
  ]);
});

test("a filter of no rules lets nothing in, and the machine still gets its own answers", LIMIT, async () => {
  await set();
  await Promise.all([
    isSilent(PEER, "100.64.0.2", 7001),
    answers(SELF, "100.64.0.1", 7003),
    answers(SELF, "fd00:64::1", 7003),
  ]);
});

test("icmp is let in alone where it alone is allowed", LIMIT, async () => {
  await set({ from, to, protocol: "icmp" });
  await Promise.all([pings("100.64.0.2"), pings("fd00:64::2"), isSilent(PEER, "100.64.0.2", 7001)]);
});

test("what is passed on is judged by its own rules, which open nothing of the machine itself", LIMIT, async () => {
  const lan = cidrs("192.168.9.0/24");
  await set({ from, to: lan, protocol: "tcp", ports: [[7001, 7001]], routed: true });
  await Promise.all([
    answers(PEER, "192.168.9.2", 7001),
    isSilent(PEER, "192.168.9.2", 7002),
    isSilent(PEER, "192.168.9.1", 7001),
    isSilent(PEER, "100.64.0.2", 7001),
    answers(LAN, "100.64.0.1", 7003),
  ]);
});

for (const [what, address, rule] of [
  ["to this machine", "100.64.0.2", tcp7001],
  ["through this machine", "192.168.9.2", { ...tcp7001, to: cidrs("192.168.9.0/24") }],
] as const)
  test(
    `an open connection ${what} ends both ways when its rule goes, while the machine goes on talking`,
    LIMIT,
    async () => {
      await set(rule);
      // The peer speaks every 50 ms and is echoed; asked, it says how much it heard in its next twenty turns.
      const program = `const s = require("node:net").connect(7001, "${address}");
      let heard = 0; s.on("data", () => heard++);
      let turns = 0; setInterval(() => { s.write("x"); if (turns > 0 && --turns === 0) console.log("heard " + heard); }, 50);
      process.stdin.on("data", () => { heard = 0; turns = 20; });`;
      const hears = listenerIn(PEER, program);
      await until("it is answered", hears, PATIENCE_MS);
      await set();
      await until("it ends", async () => !(await hears()), PATIENCE_MS);
      await set(rule);
      // TCP tries again in its own time.
      await until("it goes on", hears, PATIENCE_MS);
    },
  );

for (const [place, address] of [
  [SELF, "100.64.0.2"],
  [LAN, "192.168.9.2"],
] as const)
  test(
    `a stream that ${address} goes on sending ends too, though nothing more comes from the peer`,
    LIMIT,
    async () => {
      const rule: Rule = { from, to: cidrs(address), protocol: "udp", ports: [[7004, 7004]] };
      await set(rule);
      const stream = `const s = require("node:dgram").createSocket("udp4");
      s.once("message", (_, { port, address }) => setInterval(() => s.send("x", port, address), 20));
      s.bind(7004, () => console.log("ready"))`;
      await started(place, stream, "ready");
      const listener = `const s = require("node:dgram").createSocket("udp4"); let heard = 0; s.on("message", () => heard++);
      s.send("please", 7004, "${address}");
      process.stdin.on("data", () => { heard = 0; setTimeout(() => console.log("heard " + heard), 500); });`;
      const hears = listenerIn(PEER, listener);
      await until("it streams", hears, PATIENCE_MS);
      await set();
      await until("it ends", async () => !(await hears()), PATIENCE_MS);
      await set(rule);
      await until("it goes on", hears, PATIENCE_MS);
    },
  );

test("an equal filter is left alone, and no filter leaves no table", LIMIT, async () => {
  await set(tcp7001);
  const commands: string[] = [];
  const spying: Exec = {
    run: (argv, options) => {
      commands.push(argv.join(" "));
      return inside(SELF).run(argv, options);
    },
  };
  await setFilter(spying, DEVICE, [tcp7001]);
  assert.deepEqual(commands, [`nft list table inet ${FILTER_TABLE}`]);
  await setFilter(inside(SELF), DEVICE, undefined);
  assert.equal((await must(SELF, "nft list tables")).includes(FILTER_TABLE), false);
  await answers(PEER, "100.64.0.2", 7002);
});

test("a table that somebody took away is put back within thirty beats", LIMIT, async () => {
  await set(tcp7001);
  await must(SELF, "nft flush ruleset");
  const map = { filter: [tcp7001] };
  await keepFilter(inside(SELF), DEVICE, map, 29);
  assert.equal((await must(SELF, "nft list tables")).includes(FILTER_TABLE), false);
  await keepFilter(inside(SELF), DEVICE, map, 30);
  await isSilent(PEER, "100.64.0.2", 7002);
});
