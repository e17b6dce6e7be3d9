import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { fileURLToPath } from "node:url";
import { localExec, mustRun } from "../../src/sys/exec.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import type { WgQuick } from "../cli/wgquick.js";
import { until } from "../engine/patience.js";
import { must, type Place, placeOf, removePlaces, startWireguardGo, stop } from "../engine/places.js";
import { PlacedAgent } from "./pathsworld.js";

/**
 * A WireGuard that is not ours, set up by what `exitnode device add` prints and nothing else, at a real exit node with
 * a real coordinator. It has two ways out, of which it changes from one to the other, as a phone does:
 *
 *   PREFIXp 203.0.113.10 ──┐
 *           203.0.113.14 ──┴── PREFIXn 192.0.2.1 (coordinator), 192.0.2.2 (who is there?) ── PREFIXh 198.51.100.6
 */
const COORDINATOR = "192.0.2.1";
export const WEB = "192.0.2.2";
export const EXIT = "198.51.100.6";
export const WAYS = [
  { link: "one", gateway: "203.0.113.9", own: "203.0.113.10" },
  { link: "two", gateway: "203.0.113.13", own: "203.0.113.14" },
] as const;

/** Says whom it hears from, and what. */
const WHOAMI = `const s = require("node:dgram").createSocket("udp4");
s.on("message", (m, { address, port }) => s.send(address + " " + m, port, address));
s.bind(7000, process.argv[1], () => console.log("ready"));`;
/** Asks that until it is told. */
const ASKER = `const s = require("node:dgram").createSocket("udp4");
s.on("message", (m) => { console.log(String(m)); process.exit(); });
setInterval(() => s.send("?", 7000, process.argv[1], () => undefined), 100);
setTimeout(() => process.exit(1), 30000);`;
/** Asks it without end, with a number: prints those that are answered and, given a line, the next one. */
const FLOODER = `const s = require("node:dgram").createSocket("udp4");
let n = 0;
s.on("message", (m) => console.log(String(m).split(" ")[1]));
setInterval(() => s.send(String(n++), 7000, process.argv[1], () => undefined), 20);
process.stdin.on("data", () => console.log("next " + n));`;

export class AppWorld {
  readonly phone: Place;
  readonly #middle: Place;
  readonly #home: Place;
  readonly #names: string[];
  readonly #dataPlane: "userspace" | "kernel";
  readonly #children: ChildProcess[] = [];
  readonly #interfaces: { readonly home: string; readonly phone: string };
  #administrator: { readonly child: ChildProcess; readonly lines: AsyncIterator<string> } | undefined;
  #folder = "";
  #config = "";
  #agent: PlacedAgent | undefined;

  constructor(prefix: string, dataPlane: "userspace" | "kernel") {
    const [middle, home, phone] = ["n", "h", "p"].map((letter) => placeOf(`${prefix}${letter}`));
    if (middle === undefined || home === undefined || phone === undefined) throw new Error("three places");
    [this.#middle, this.#home, this.phone] = [middle, home, phone];
    this.#names = [middle, home, phone].map(({ name }) => name);
    this.#dataPlane = dataPlane;
    // wireguard-go's sockets lie in one folder, whatever namespace they are of.
    this.#interfaces = { home: `exnp${dataPlane[0]}h`, phone: `exnp${dataPlane[0]}p` };
  }

  async open(): Promise<void> {
    removePlaces(...this.#names);
    for (const name of this.#names) await mustRun(localExec, ["ip", "netns", "add", name]);
    const [middle, home, phone] = this.#names;
    await batch(this.#middle, [
      "link set lo up",
      ...[COORDINATOR, WEB].map((ip) => `address add ${ip}/32 dev lo`),
      `link add home type veth peer name wire netns ${home}`,
      ...WAYS.map(({ link }) => `link add ${link} type veth peer name ${link} netns ${phone}`),
      "address add 198.51.100.5/30 dev home",
      ...WAYS.map(({ link, gateway }) => `address add ${gateway}/30 dev ${link}`),
      ...["home", ...WAYS.map(({ link }) => link)].map((link) => `link set ${link} up`),
    ]);
    await batch(this.#home, [
      `address add ${EXIT}/30 dev wire`,
      ...["lo", "wire"].map((link) => `link set ${link} up`),
      "route add default via 198.51.100.5",
    ]);
    await batch(this.phone, [
      ...WAYS.map(({ link, own }) => `address add ${own}/30 dev ${link}`),
      ...["lo", ...WAYS.map(({ link }) => link)].map((link) => `link set ${link} up`),
    ]);
    await this.wayOut(0);
    for (const place of [this.#middle, this.#home]) await must(place, "sysctl -qw net.ipv4.ip_forward=1");
    await must(this.#home, "nft -f -", MASQUERADE);
    const whoami = this.#spawn(middle ?? "", ["-e", WHOAMI, WEB]);
    await once(linesOf(whoami), "line");
    const child = this.#spawn(middle ?? "", ["--enable-source-maps", path("appmiddle.js"), COORDINATOR]);
    const lines = linesOf(child)[Symbol.asyncIterator]();
    this.#administrator = { child, lines };
    const { publicKey, joinKey } = JSON.parse((await lines.next()).value) as { publicKey: string; joinKey: string };
    this.#folder = await mkdtemp(join(tmpdir(), "exn-app-"));
    await writeFile(join(this.#folder, "join.key"), `${joinKey}\n`, { mode: 0o600 });
    this.#config = JSON.stringify({
      ...{ name: "home", role: "exit-node", interface: this.#interfaces.home, dataPlane: this.#dataPlane },
      coordinator: { urls: [`https://${COORDINATOR}:8443`], publicKey },
    });
    // In the kernel's place, whose WireGuard not every machine has.
    if (this.#dataPlane === "kernel") this.#children.push(await startWireguardGo(this.#home, this.#interfaces.home));
    await this.startHome();
    await until("the exit node is there", async () => (await this.listed("home"))?.online === true);
  }

  get home(): PlacedAgent {
    return this.#agent ?? assert.fail("not started");
  }

  async startHome(): Promise<void> {
    const argv = ["--enable-source-maps", path("pathsagent.js"), this.#folder, this.#config];
    this.#agent = new PlacedAgent(this.#home, this.#spawn(this.#home.name, argv));
    await this.home.ready;
  }

  /** What `device list` knows of it. */
  async listed(name: string): Promise<DeviceInfo | undefined> {
    const { stdout } = await this.administer("device", "list", "--json");
    return (JSON.parse(stdout) as { devices: DeviceInfo[] }).devices.find((device) => device.name === name);
  }

  /** `exitnode …`, as its administrator types it. */
  async administer(...args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const { child, lines } = this.#administrator ?? assert.fail("not open");
    child.stdin?.write(`${JSON.stringify(args)}\n`);
    return JSON.parse((await lines.next()).value);
  }

  /** Does what the app does with its configuration. */
  async configure({ stripped, address, mtu, allowedIps }: WgQuick): Promise<void> {
    const device = this.#interfaces.phone;
    this.#children.push(await startWireguardGo(this.phone, device));
    // wg opens its file by name, and a pipe of the shell's has one.
    await mustRun(this.phone.exec, ["sh", "-c", `cat | wg setconf ${device} /dev/stdin`], { input: stripped });
    await batch(this.phone, [
      ...address.map((ip) => `address add ${ip} dev ${device}${ip.includes(":") ? " nodad" : ""}`),
      `link set ${device} mtu ${mtu} up`,
      ...allowedIps.map((prefix) => `route add ${prefix} dev ${device}`),
    ]);
  }

  /** By which of its links the phone reaches the Internet. */
  wayOut(number: 0 | 1): Promise<string> {
    const { gateway, own } = WAYS[number];
    return must(this.phone, `ip route replace ${EXIT}/32 via ${gateway} src ${own}`);
  }

  /** As whom a server on the Internet sees the phone. */
  async seenAs(): Promise<string> {
    const { stdout } = await this.phone.exec.run([process.execPath, "-e", ASKER, WEB]);
    return stdout.split(" ")[0] ?? "";
  }

  /** Until what the exit node keeps for its next start has the phone in it. */
  async heardIsKept(): Promise<void> {
    await until("it is kept", async () => {
      const { stdout } = await localExec.run(["cat", join(this.#folder, "heard.json")]);
      return stdout.includes(WAYS[1].own);
    });
  }

  /** Sends without end: the numbers of what was answered, and of what is sent next. */
  flood(): { readonly child: ChildProcess; readonly answers: number[]; next(): Promise<number> } {
    const child = this.#spawn(this.phone.name, ["-e", FLOODER, WEB]);
    const answers: number[] = [];
    let tell: (next: number) => void = () => undefined;
    linesOf(child).on("line", (line) => {
      if (line.startsWith("next ")) tell(Number(line.slice(5)));
      else answers.push(Number(line));
    });
    const next = (): Promise<number> =>
      new Promise((resolve) => {
        tell = resolve;
        child.stdin?.write("\n");
      });
    return { child, answers, next };
  }

  async close(): Promise<void> {
    for (const child of this.#children.reverse()) await stop(child);
    removePlaces(...this.#names);
    if (this.#folder !== "") await rm(this.#folder, { recursive: true, force: true });
  }

  #spawn(place: string, args: readonly string[]): ChildProcess {
    const argv = ["netns", "exec", place, process.execPath, ...args];
    const child = spawn("ip", argv, { stdio: ["pipe", "pipe", "inherit"] });
    this.#children.push(child);
    return child;
  }
}

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const batch = (place: Place, lines: readonly string[]): Promise<string> =>
  must(place, "ip -batch -", `${lines.join("\n")}\n`);

function linesOf(child: ChildProcess): Interface {
  if (child.stdout === null) throw new Error("no stdout");
  return createInterface({ input: child.stdout });
}

const MASQUERADE = `table ip exits {
  chain post { type nat hook postrouting priority srcnat; oifname "wire" masquerade; }
}
`;
