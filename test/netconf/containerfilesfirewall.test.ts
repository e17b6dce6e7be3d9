import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { type ContainerValues, readTemplates, renderContainerFiles } from "../../src/netconf/containerfiles.js";
import { removeNamespace } from "../engine/removenamespace.js";

/**
 * The container's nftables.conf in a real kernel. Three namespaces:
 *
 *   client 100.64.0.2 ── exn0 [exit] eth0 192.168.50.2 ── router 192.168.50.1, and behind or beside it:
 *     192.168.50.9, 2001:db8:50::9     neighbours of the exit: a home server, with a global IPv6 address
 *     203.0.113.80, 2001:db8:ffff::80  the Internet
 */
const CLIENT = "exn-ap-fc";
const EXIT = "exn-ap-fx";
const ROUTER = "exn-ap-fr";
const PLACES = [CLIENT, EXIT, ROUTER];
const skip = process.getuid?.() === 0 ? false : "needs root";
const servers: ChildProcess[] = [];

/** What is to answer is waited for; what is to be silent, for a moment. */
const ANSWER_MS = 30_000;
const SILENCE_MS = 800;
/** Answers every TCP connection with the address it saw, and keeps it open for a look at its segment size. */
const SERVER = `
const net = require("node:net");
let left = process.argv.length - 1;
for (const port of process.argv.slice(1))
  net.createServer((s) => { s.on("error", () => {}); s.write(s.remoteAddress.replace("::ffff:", "") + "\\n"); })
    .listen(Number(port), "::", () => { if (--left === 0) console.log("ready"); });`;
/** Prints what each "address port" of argv answered within the milliseconds before them; "nothing" where nothing did. */
const ASKER = `
const net = require("node:net");
const [patience, ...targets] = process.argv.slice(1);
const ask = (target) => new Promise((resolve) => {
  const [host, port] = target.split(" ");
  const s = net.connect(Number(port), host);
  const end = (answer) => { s.destroy(); resolve(answer); };
  s.setTimeout(Number(patience), () => end("nothing"));
  s.on("error", () => end("nothing")); s.on("data", (d) => end(String(d).trim()));
});
Promise.all(targets.map(ask)).then((all) => console.log(JSON.stringify(all)));`;

const sources = await readTemplates(async (name) => readFileSync(`templates/${name}`, "utf8"));

before(async () => {
  if (skip) return;
  tearDown();
  for (const place of PLACES) run("ip", "netns", "add", place);
  wire(EXIT, "exn0", CLIENT, "tun");
  wire(EXIT, "eth0", ROUTER, "lan");
  address(CLIENT, "tun", "100.64.0.2/10", "fd5e:a1b2:c3d4::2/48");
  address(EXIT, "exn0", "100.64.0.1/10", "fd5e:a1b2:c3d4::1/48");
  address(EXIT, "eth0", "192.168.50.2/24", "2001:db8:50::2/64");
  address(ROUTER, "lan", "192.168.50.1/24", "fe80::1/64", "192.168.50.9/32", "2001:db8:50::9/64");
  address(ROUTER, "lo", "203.0.113.80/32", "2001:db8:ffff::80/128");
  at(EXIT, "ip", "link", "set", "exn0", "mtu", "1280");
  // WireGuard's interface has no neighbour discovery, and the firewall lets none in from it.
  at(EXIT, "ip", "link", "set", "exn0", "address", "02:00:00:00:00:01");
  at(CLIENT, "ip", "link", "set", "tun", "address", "02:00:00:00:00:02");
  at(CLIENT, "ip", "neigh", "replace", "fd5e:a1b2:c3d4::1", "lladdr", "02:00:00:00:00:01", "dev", "tun");
  at(EXIT, "ip", "neigh", "replace", "fd5e:a1b2:c3d4::2", "lladdr", "02:00:00:00:00:02", "dev", "exn0");
  at(CLIENT, "ip", "route", "add", "default", "via", "100.64.0.1");
  at(CLIENT, "ip", "route", "add", "default", "via", "fd5e:a1b2:c3d4::1");
  at(EXIT, "ip", "route", "add", "default", "via", "192.168.50.1");
  at(EXIT, "ip", "route", "add", "default", "via", "fe80::1", "dev", "eth0");
  // Were the exit's NAT or filter missing, answers would find their way: a test must not pass for want of a route.
  at(ROUTER, "ip", "route", "add", "100.64.0.0/10", "via", "192.168.50.2");
  at(ROUTER, "ip", "route", "add", "fd5e:a1b2:c3d4::/48", "via", "2001:db8:50::2");
  at(EXIT, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
  await serve(ROUTER, 80, 25, 53);
  await serve(EXIT, 22, 443);
  await serve(CLIENT, 80);
});
after(() => {
  for (const server of servers) server.kill("SIGKILL");
  if (!skip) tearDown();
});

test("the tunnel reaches the Internet by both families, seen as the exit", { skip }, () => {
  load({});
  answer(CLIENT, { "203.0.113.80 80": "192.168.50.2", "2001:db8:ffff::80 80": "2001:db8:50::2" });
});

test("the tunnel does not reach the home, its router, or a neighbour with a global address", { skip }, () => {
  load({});
  silent(CLIENT, "192.168.50.9 80", "192.168.50.1 80", "192.168.50.1 53", "2001:db8:50::9 80");
});

test("the tunnel sends no mail", { skip }, () => {
  load({});
  silent(CLIENT, "203.0.113.80 25", "2001:db8:ffff::80 25");
});

test("what is allowed of the LAN is reached, and only that", { skip }, () => {
  load({ allowLan: ["192.168.50.9", "2001:db8:50::9"] });
  answer(CLIENT, { "192.168.50.9 80": "192.168.50.2", "2001:db8:50::9 80": "2001:db8:50::2" });
  silent(CLIENT, "192.168.50.1 80");
});

test("the exit's resolver answers names through the tunnel, and nothing else of it does", { skip }, () => {
  load({ resolvers: ["192.168.50.1"] });
  answer(CLIENT, { "192.168.50.1 53": "192.168.50.2" });
  silent(CLIENT, "192.168.50.1 80");
});

test("a protected public range is not reached", { skip }, () => {
  load({ protect: ["203.0.113.0/24"] });
  answer(CLIENT, { "2001:db8:ffff::80 80": "2001:db8:50::2" });
  silent(CLIENT, "203.0.113.80 80");
});

test("of the exit itself the tunnel gets an answer to ping and no port, not even the coordinator's", { skip }, () => {
  load({ coordinator: COORDINATOR });
  for (const own of ["100.64.0.1", "fd5e:a1b2:c3d4::1"]) at(CLIENT, "ping", "-c1", "-w30", own);
  assert.notEqual(spawnIn(CLIENT, "ping", "-c1", "-W1", "192.168.50.2").status, 0);
  silent(CLIENT, "100.64.0.1 22", "100.64.0.1 443", "192.168.50.2 22", "192.168.50.2 443", "2001:db8:50::2 443");
});

test("from the LAN: ssh always, the coordinator where there is one", { skip }, () => {
  load({});
  answer(ROUTER, { "192.168.50.2 22": "192.168.50.1" });
  silent(ROUTER, "192.168.50.2 443");
  load({ coordinator: COORDINATOR });
  answer(ROUTER, { "192.168.50.2 443": "192.168.50.1" });
});

test("nobody reaches into the tunnel from outside", { skip }, () => {
  load({});
  silent(ROUTER, "100.64.0.2 80", "fd5e:a1b2:c3d4::2 80");
});

test("a sender of no tunnel address is dropped", { skip }, () => {
  load({});
  address(CLIENT, "tun", "10.9.9.9/32");
  const ping = spawnIn(CLIENT, "ping", "-c1", "-W1", "-I", "10.9.9.9", "203.0.113.80");
  at(CLIENT, "ip", "addr", "del", "10.9.9.9/32", "dev", "tun");
  assert.notEqual(ping.status, 0);
  assert.match(
    at(EXIT, "nft", "list", "chain", "inet", "exitnode", "outward").stdout,
    /!= 100.64.0.0\/10 counter packets [1-9]/,
  );
});

test("segments are clamped to the tunnel although the client offers 1460 bytes", { skip }, async () => {
  load({});
  const holder = spawn("ip", ["netns", "exec", CLIENT, "node", "-e", HOLDER], { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(holder);
  await once(holder.stdout, "data");
  const sockets = at(ROUTER, "ss", "-Htni", "state", "established", "sport", "=", "80").stdout;
  const sizes = [...sockets.matchAll(/\bmss:(\d+)/g)].map((match) => Number(match[1]));
  assert.ok(sizes.length > 0 && sizes.every((size) => size <= 1_240), `segment sizes ${sizes.join(", ")}`);
});

test("loading twice leaves one table, with the newer rules", { skip }, () => {
  load({ allowLan: ["192.168.50.9"] });
  load({});
  assert.equal(at(EXIT, "nft", "list", "tables").stdout.trim(), "table inet exitnode");
  assert.doesNotMatch(at(EXIT, "nft", "list", "ruleset").stdout, /allowed4/);
});

const COORDINATOR = { urls: ["https://203.0.113.9"], adminTokenSha256: "0".repeat(64) };
const HOLDER = `require("node:net").connect(80, "203.0.113.80").on("data", () => console.log("open"));`;

function load(values: ContainerValues): void {
  const files = renderContainerFiles(sources, { tunnelIpv6: "fd5e:a1b2:c3d4::/48", ...values });
  const input = files.find((file) => file.path === "/etc/nftables.conf")?.content ?? "";
  const ran = spawnSync("ip", ["netns", "exec", EXIT, "nft", "-f", "-"], { input, encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
}

/** Each target shows the address that it saw. */
function answer(place: string, expected: Readonly<Record<string, string>>): void {
  assert.deepEqual(ask(place, ANSWER_MS, Object.keys(expected)), Object.values(expected));
}

function silent(place: string, ...targets: string[]): void {
  assert.deepEqual(
    ask(place, SILENCE_MS, targets),
    targets.map(() => "nothing"),
  );
}

function ask(place: string, patienceMs: number, targets: readonly string[]): unknown {
  return JSON.parse(at(place, process.execPath, "-e", ASKER, String(patienceMs), ...targets).stdout);
}

async function serve(place: string, ...ports: number[]): Promise<void> {
  const argv = ["netns", "exec", place, process.execPath, "-e", SERVER, ...ports.map(String)];
  const server = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
  servers.push(server);
  await once(server.stdout, "data");
}

function wire(left: string, leftName: string, right: string, rightName: string): void {
  run("ip", "link", "add", leftName, "netns", left, "type", "veth", "peer", "name", rightName, "netns", right);
  for (const [place, name] of [
    [left, leftName],
    [right, rightName],
  ] as const) {
    at(place, "ip", "link", "set", "lo", "up");
    at(place, "ip", "link", "set", name, "up");
  }
}

function address(place: string, device: string, ...addresses: string[]): void {
  for (const one of addresses) {
    const nodad = one.includes(":") ? ["nodad"] : [];
    at(place, "ip", "addr", "add", one, "dev", device, ...nodad);
  }
}

/** Leftovers of a run that was killed are removed as well. */
function tearDown(): void {
  for (const place of PLACES) removeNamespace(place);
}

const spawnIn = (place: string, ...argv: string[]) =>
  spawnSync("ip", ["netns", "exec", place, ...argv], { encoding: "utf8", timeout: 20_000 });

function at(place: string, ...argv: string[]) {
  return run("ip", "netns", "exec", place, ...argv);
}

function run(file: string, ...argv: string[]) {
  const ran = spawnSync(file, argv, { encoding: "utf8", timeout: 2 * ANSWER_MS });
  assert.equal(ran.status, 0, `${file} ${argv.join(" ").slice(0, 120)}: ${ran.stderr}`);
  return ran;
}
