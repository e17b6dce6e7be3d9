import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parseCidr, parseIp } from "../../src/kit/ip.js";
import {
  type HostNet,
  type ObservedHostNet,
  type Previous,
  planHostNet,
  previousOf,
} from "../../src/netconf/hostnet.js";
import { type Observation, type Output, observeHostNet, readHostNet } from "../../src/netconf/hostnetobserve.js";
import { localExec, mustRun, type Ran } from "../../src/sys/exec.js";
import { removeNamespace } from "../engine/removenamespace.js";

/**
 * A client between two worlds: its LAN's router (which answers as 203.0.113.10) and an exit (203.0.113.9, and DNS
 * on 100.64.0.1), the latter on a plain link named like the tunnel's device.
 */
const HOST = "exn-en-host";
const ROUTER = "exn-en-router";
const EXIT = "exn-en-exit";
const DEVICE = "exn0";
const UID = 12_345;
const DNS_ANSWER = "192.0.2.53";
/** Where the agent would answer look-ups, on loopback. */
const PORT = 5_399;

const inside = (place: string, ...argv: string[]): Promise<Ran> =>
  localExec.run(["ip", "netns", "exec", place, ...argv]);
const must = (place: string, line: string, input?: string): Promise<string> =>
  mustRun(localExec, ["ip", "netns", "exec", place, ...line.split(" ")], input === undefined ? {} : { input });

function removePlaces(): void {
  for (const place of [HOST, ROUTER, EXIT]) removeNamespace(place);
}

before(async () => {
  removePlaces();
  for (const place of [HOST, ROUTER, EXIT]) {
    await mustRun(localExec, ["ip", "netns", "add", place]);
    await must(place, "ip link set lo up");
  }
  await must(HOST, `ip link add eth0 type veth peer name lan netns ${ROUTER}`);
  await must(HOST, `ip link add ${DEVICE} type veth peer name tunnel netns ${EXIT}`);
  // Link-local addresses appear in their own time, which would look like a trace of ours.
  for (const device of ["eth0", DEVICE]) await must(HOST, `ip link set ${device} addrgenmode none`);
  await must(HOST, "ip address add 192.168.7.2/24 dev eth0");
  await must(HOST, "ip link set eth0 up");
  await must(HOST, "ip route add default via 192.168.7.1");
  await must(HOST, "tee /proc/sys/net/ipv4/conf/eth0/rp_filter", "1\n");
  await must(ROUTER, "ip address add 192.168.7.1/24 dev lan");
  await must(ROUTER, "ip address add 203.0.113.10/32 dev lo");
  await must(ROUTER, "ip link set lan up");
  await must(EXIT, "ip address add 100.64.0.1/32 dev tunnel");
  await must(EXIT, "ip address add fd7e:1::1/128 dev tunnel nodad");
  await must(EXIT, "ip address add 203.0.113.9/32 dev lo");
  await must(EXIT, "ip link set tunnel up");
  await must(EXIT, "ip route add 100.64.0.7/32 dev tunnel");
  // A tunnel has no neighbours to ask for: here the exit answers for every address.
  await must(EXIT, "tee /proc/sys/net/ipv4/conf/tunnel/proxy_arp", "1\n");
  await must(EXIT, "ip route add default dev lo");
  const dnsmasq = "dnsmasq --conf-file=/dev/null --no-hosts --no-resolv --bind-interfaces";
  await must(HOST, `${dnsmasq} --listen-address=127.0.0.1,::1 --port=${PORT} --address=/#/${DNS_ANSWER}`);
  // A stub resolver that ties its questions to the LAN's device, as some do for the resolvers that they had from there.
  await must(HOST, `${dnsmasq} --listen-address=127.0.0.53 --port=53 --server=203.0.113.10@eth0`);
  await must(ROUTER, "nft -f -", COUNTER);
});
after(removePlaces);

const mesh: HostNet = {
  device: DEVICE,
  mtu: 1280,
  addresses: [parseIp("100.64.0.7"), parseIp("fd7e:1::7")],
  routes: [parseCidr("100.64.0.0/10"), parseCidr("fd7e:1::/48")],
  everything: false,
  fwmark: 0x45_0000,
  uid: UID,
  escapes: [],
  resolver: undefined,
};
const exit: HostNet = { ...mesh, everything: true, resolver: { port: PORT, asked: [] } };
let previous: Previous = {};

async function observe(): Promise<ObservedHostNet> {
  const outputs: Partial<Record<Observation, Output>> = {};
  for (const { name, argv } of observeHostNet(DEVICE)) outputs[name] = await inside(HOST, ...argv);
  return readHostNet(DEVICE, outputs as Record<Observation, Output>, previous);
}

async function apply(want: HostNet | undefined): Promise<void> {
  const observed = await observe();
  const steps = planHostNet(want, observed);
  previous = previousOf(want, observed);
  for (const { argv, input } of steps)
    await mustRun(localExec, ["ip", "netns", "exec", HOST, ...argv], input === undefined ? {} : { input });
}

async function snapshot(): Promise<string> {
  const commands = [
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
    "nft list ruleset",
    "grep -rs . /proc/sys/net/ipv4/conf --include=rp_filter",
  ];
  const parts: string[] = [];
  for (const command of commands) parts.push(`# ${command}\n${await must(HOST, command)}`);
  return parts.join("\n");
}

/** Within a long while. */
const pings = async (to: string, ...options: string[]): Promise<boolean> =>
  (await inside(HOST, "ping", "-c", "1", "-w", "30", ...options, to)).exitCode === 0;
/** For a moment. */
const isSilent = async (to: string, ...options: string[]): Promise<boolean> =>
  (await inside(HOST, "ping", "-c", "1", "-W", "1", ...options, to)).exitCode !== 0;
const deviceTo = async (...argv: string[]): Promise<string> =>
  / dev (\S+)/.exec((await inside(HOST, "ip", "route", "get", ...argv)).stdout)?.[1] ?? "none";

/** Anything that comes from the host in UDP or TCP: none of it but look-ups is sent while it is read. */
const COUNTER = `table inet exn_en { chain seen { type filter hook prerouting priority 0; policy accept;
  iifname "lan" meta l4proto { 6, 17 } counter;
}; }`;
/** Look-ups that reached the LAN's router. */
const lookupsBeside = async (): Promise<number> =>
  Number(/packets (\d+)/.exec(await must(ROUTER, "nft list table inet exn_en"))?.[1] ?? -1);

const LOOKUP = (server: string, timeoutMs: number): string => `
const resolver = new (require("node:dns").Resolver)({ timeout: ${timeoutMs}, tries: 1 });
resolver.setServers(["${server}"]);
resolver.resolve4("anything.example", (error, found) => console.log(error ? error.code : found.join()));`;
const lookup = async (server: string, timeoutMs = 30_000): Promise<string> =>
  (await inside(HOST, process.execPath, "-e", LOOKUP(server, timeoutMs))).stdout.trim();

test("an exit takes everything but marked packets and the agent's user, and undoing it leaves no trace", async () => {
  const untouched = await snapshot();
  assert.equal(await pings("203.0.113.10"), true, "the Internet is reached directly at first");

  await apply(exit);
  assert.deepEqual(planHostNet(exit, await observe()), [], "a second plan is empty");
  assert.equal(await pings("203.0.113.9"), true, "through the exit");
  assert.equal(await isSilent("203.0.113.10"), true, "not beside the exit");
  assert.equal(await pings("203.0.113.10", "-m", `${exit.fwmark}`), true, "marked packets go directly, and come back");
  assert.equal(await isSilent("203.0.113.9", "-m", `${exit.fwmark}`), true);
  assert.equal(await deviceTo("198.51.100.1", "uid", `${UID}`), "eth0");
  assert.equal(await deviceTo("198.51.100.1", "uid", "1"), DEVICE);
  assert.equal(await deviceTo("2001:db8::1"), DEVICE, "IPv6 does not pass beside the exit");
  assert.equal(await deviceTo("100.64.0.9", "uid", `${UID}`), DEVICE, "the agent's user reaches the mesh");
  assert.equal(await lookup("203.0.113.10"), DNS_ANSWER, "look-ups asked of anyone are answered on loopback");
  assert.equal(await lookup("[2001:db8::53]"), DNS_ANSWER, "over IPv6 too");
  const beside = await lookupsBeside();
  assert.equal(await lookup("127.0.0.53"), DNS_ANSWER, "questions tied to the LAN's device come back as well");
  assert.equal(await lookupsBeside(), beside, "none has left");

  await apply(undefined);
  assert.equal(await snapshot(), untouched);
});

test("without an exit only the machine's own resolvers' look-ups are answered on loopback", async () => {
  const untouched = await snapshot();
  await apply({ ...mesh, resolver: { port: PORT, asked: [parseIp("203.0.113.10")] } });
  assert.equal(await lookup("203.0.113.10"), DNS_ANSWER);
  const before = await lookupsBeside();
  assert.notEqual(await lookup("192.168.7.1", 1_000), DNS_ANSWER, "somebody else is asked as before");
  assert.notEqual(await lookupsBeside(), before);
  await apply(undefined);
  assert.equal(await snapshot(), untouched);
});

test("the mesh alone leaves the rest where it was, and switching back and forth converges", async () => {
  const untouched = await snapshot();
  await apply(mesh);
  assert.deepEqual(planHostNet(mesh, await observe()), []);
  assert.equal(await pings("100.64.0.1"), true);
  assert.equal(await pings("203.0.113.10"), true);
  assert.equal(await isSilent("203.0.113.9"), true);
  const meshed = await snapshot();
  await apply(exit);
  await apply({ ...exit, direct: [parseCidr("203.0.113.10/32")] });
  assert.equal(await pings("203.0.113.10"), true, "a direct network stays direct");
  await apply(mesh);
  assert.equal(await snapshot(), meshed);
  await apply(undefined);
  assert.equal(await snapshot(), untouched);
});

test("when the device goes down under an exit, nothing leaves beside it", async () => {
  await apply(exit);
  await must(HOST, `ip link set ${DEVICE} down`);
  assert.equal(await isSilent("203.0.113.10"), true);
  assert.equal(await deviceTo("198.51.100.1"), "none");
  assert.equal(await deviceTo("203.0.113.10", "mark", `${exit.fwmark}`), "eth0", "the tunnel can still be rebuilt");
  await apply(exit);
  assert.equal(await pings("203.0.113.9"), true, "one more plan mends it");
  await apply(undefined);
});
