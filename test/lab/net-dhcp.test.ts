import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { parseIp } from "../../src/kit/ip.js";
import { neighbours, renderGatewayDns, renderHosts } from "../../src/lab/dnsmasq.js";
import { encodeRelease, parseLeases } from "../../src/lab/lease.js";
import { findPlace } from "../../src/lab/places.js";
import { topology } from "../../src/lab/topology.js";
import { until } from "../engine/patience.js";
import { removeNamespace } from "../engine/removenamespace.js";

/** The home router's dnsmasq, real, in a namespace of its own with one client: needs root, not the lab. */

const ROUTER = "exn-dhcp-router";
const CLIENT = "exn-dhcp-client";
const able = process.platform === "linux" && process.getuid?.() === 0;

const ip = (...args: string[]): string => execFileSync("ip", args, { encoding: "utf8" });
const ipIn = (namespace: string, ...args: string[]): string => ip("-n", namespace, ...args);
const runIn = (namespace: string, ...command: string[]): string => ip("netns", "exec", namespace, ...command).trim();

/** A DHCP client (RFC 2131): discovers, again every two seconds, requests what it is offered, prints what it was acknowledged. */
const ASK = `
const [mac, name] = process.argv.slice(1), u = require("dgram").createSocket("udp4");
const message = (type, extra) => Buffer.concat([Buffer.from("0101060011223344" + "00008000" + "00".repeat(16) + mac + "00".repeat(202) + "638253633501" + type, "hex"), extra, Buffer.from([12, name.length]), Buffer.from(name), Buffer.from([255])]);
const send = (m) => u.send(m, 67, "255.255.255.255");
u.on("message", (m) => {
  const type = m[242], mine = m.subarray(16, 20);
  if (type === 5) { console.log(mine.join(".")); process.exit(); }
  send(message("03", Buffer.concat([Buffer.from([50, 4]), mine, Buffer.from([54, 4, 198, 18, 77, 1])])));
}).bind(68, () => {
  const discover = () => send(message("01", Buffer.alloc(0)));
  u.setBroadcast(true); discover(); setInterval(discover, 2000);
});
setTimeout(() => process.exit(1), 60000);`;

const TELL = `const u = require("dgram").createSocket("udp4");
u.send(Buffer.from(process.argv[1], "hex"), 67, "198.18.77.1", () => u.close());`;

function clear(): void {
  for (const namespace of [ROUTER, CLIENT]) removeNamespace(namespace);
}

describe("the home router's DHCP", { skip: able ? false : "needs root on Linux" }, () => {
  const folder = able ? mkdtempSync(join(tmpdir(), "exn-dhcp-")) : "";
  const ask = (mac: string, name: string): string => {
    // The kernel forgets the route with the last address of the device.
    ipIn(CLIENT, "route", "replace", "255.255.255.255/32", "dev", "eth0");
    return runIn(CLIENT, process.execPath, "-e", ASK, mac, name);
  };

  before(async () => {
    clear();
    const home = findPlace(topology, "home");
    assert.ok(home.gateway);
    for (const namespace of [ROUTER, CLIENT]) ip("netns", "add", namespace);
    ip(..."link add name lan netns".split(" "), ROUTER, ..."type veth peer name eth0 netns".split(" "), CLIENT);
    const sysctl =
      "echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
    for (const namespace of [ROUTER, CLIENT]) runIn(namespace, "sh", "-c", sysctl);
    for (const device of ["lo", "lan"]) ipIn(ROUTER, "link", "set", device, "up");
    ipIn(ROUTER, "address", "add", "198.18.77.1/24", "dev", "lan");
    ipIn(ROUTER, "address", "add", "2001:db8:77:1::1/64", "dev", "lan", "nodad");
    writeFileSync(join(folder, "home.hosts"), renderHosts(neighbours(topology, home.gateway)));
    writeFileSync(join(folder, "home.dnsmasq"), renderGatewayDns(home, home.gateway, folder));
    const command = ["netns", "exec", ROUTER, "dnsmasq", `--conf-file=${join(folder, "home.dnsmasq")}`];
    const { stderr } = spawn("ip", command, { stdio: ["ignore", "ignore", "pipe"] });
    for await (const line of createInterface({ input: stderr })) if (/read .*home\.hosts/.test(line)) break;
    ipIn(CLIENT, "link", "set", "eth0", "up");
  });
  after(() => {
    clear();
    rmSync(folder, { recursive: true });
  });

  test("the host name `home` gets the reserved address, others get one out of the range", () => {
    assert.equal(ask("02aabbccdd01", "home"), "198.18.77.50");
    assert.match(ask("02aabbccdd02", "other"), /^198\.18\.77\.1\d\d$/);
  });

  test("another machine named `home` gets the reserved address only after the first one's lease was given back", () => {
    assert.match(ask("02aabbccdd03", "home"), /^198\.18\.77\.1\d\d$/);
    const leases = parseLeases(readFileSync(join(folder, "home.leases"), "utf8"));
    const lease = leases.find(({ mac }) => mac === "02:aa:bb:cc:dd:01");
    assert.ok(lease);
    ipIn(CLIENT, "address", "add", "198.18.77.10/24", "dev", "eth0");
    runIn(CLIENT, process.execPath, "-e", TELL, toHex(encodeRelease(lease, parseIp("198.18.77.1"))));
    ipIn(CLIENT, "address", "delete", "198.18.77.10/24", "dev", "eth0");
    assert.equal(ask("02aabbccdd04", "home"), "198.18.77.50");
  });

  test("a router advertisement gives an address of the home's prefix and a default route", async () => {
    ipIn(CLIENT, "link", "set", "eth0", "down");
    ipIn(CLIENT, "link", "set", "eth0", "up");
    const shown = (): string => ipIn(CLIENT, "-6", "address") + ipIn(CLIENT, "-6", "route");
    const isThere = (): boolean => /inet6 2001:db8:77:1:/.test(shown()) && /^default via fe80:/m.test(shown());
    await until("an address and a default route", isThere, 60_000);
  });
});
