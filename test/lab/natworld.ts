import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { MACHINE, namespaceOf, type Place, type Topology } from "../../src/lab/internet.js";
import { renderLinks, renderNamespaces, renderPlace, renderSysctls, sysctlsOf } from "../../src/lab/iproute.js";
import { reshapeNetwork } from "../../src/lab/network.js";
import { planReshape, rulesOf } from "../../src/lab/reshape.js";
import { type Situation, situate, USUAL } from "../../src/lab/situation.js";
import { topology } from "../../src/lab/topology.js";
import { localExec } from "../../src/sys/exec.js";
import { removeNamespace } from "../engine/removenamespace.js";

/**
 * The lab's Internet in namespaces of a test's own, without its daemons and its Proxmox host: made in a moment, beside
 * a lab that may be up, and changed by the same steps as the lab is.
 */

/** For a datagram that comes: longer than any machine is busy. */
export const COMES_WITHIN_MS = 20_000;

export const able = process.platform === "linux" && process.getuid?.() === 0;

export class NatWorld {
  readonly #prefix: string;
  readonly #probes: Probe[] = [];
  #situation: Situation = USUAL;

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  namespace(place: string): string {
    return namespaceOf(`${this.#prefix}-${place}`);
  }

  run(place: string, ...command: string[]): string {
    return execFileSync("ip", ["netns", "exec", this.namespace(place), ...command], { encoding: "utf8" });
  }

  raise(): void {
    this.clear();
    const whole = this.#topology(USUAL);
    ip("-batch", "-", renderNamespaces(whole));
    for (const place of whole.places) {
      const net = `--net=/run/netns/${namespaceOf(place.name)}`;
      execFileSync("nsenter", [net, "sh", "-s"], { input: renderSysctls(sysctlsOf(place)) });
      mkdirSync(`/etc/netns/${namespaceOf(place.name)}`, { recursive: true });
    }
    ip("-batch", "-", renderLinks(whole));
    for (const place of whole.places) {
      ip("-n", namespaceOf(place.name), "-batch", "-", renderPlace(place));
      const net = `--net=/run/netns/${namespaceOf(place.name)}`;
      if (rulesOf(place) !== "") execFileSync("nsenter", [net, "nft", "-f", "-"], { input: rulesOf(place) });
    }
  }

  async change(change: (situation: Situation) => Situation): Promise<void> {
    const wanted = change(this.#situation);
    await reshapeNetwork(localExec, planReshape(this.#topology(this.#situation), this.#topology(wanted)));
    this.#situation = wanted;
  }

  async probe(place: string): Promise<Probe> {
    const probe = new Probe(this.namespace(place));
    this.#probes.push(probe);
    await probe.ready;
    return probe;
  }

  /** Also what a killed run left. */
  async lower(): Promise<void> {
    await Promise.all(this.#probes.map((probe) => probe.end()));
    this.clear();
  }

  clear(): void {
    for (const { name } of this.#topology(USUAL).places) {
      const namespace = namespaceOf(name);
      rmSync(`/etc/netns/${namespace}`, { recursive: true, force: true });
      removeNamespace(namespace);
    }
    if (existsSync("/etc/netns") && readdirSync("/etc/netns").length === 0) rmdirSync("/etc/netns");
  }

  place(name: string): Place {
    const found = situate(topology, this.#situation).places.find((place) => place.name === name);
    assert.ok(found);
    return found;
  }

  #topology(situation: Situation): Topology {
    const { places, links, machine } = situate(topology, situation);
    const own = (name: string): string => `${this.#prefix}-${name}`;
    const wires = links.filter((ends) => ends.every(({ place }) => place !== MACHINE && place !== "pve1"));
    return {
      // The Proxmox host stays away, and with it the router's port to it.
      places: places
        .filter(({ name }) => name !== "pve1")
        .map((place) => ({
          ...place,
          name: own(place.name),
          devices: place.devices
            .filter(({ name }) => name !== "lan-pve1")
            .map((one) =>
              one.ports === undefined ? one : { ...one, ports: one.ports.filter((port) => port !== "lan-pve1") },
            ),
        })),
      links: wires.map(([one, other]) => [
        { ...one, place: own(one.place) },
        { ...other, place: own(other.place) },
      ]),
      machine,
    };
  }
}

function ip(...args: string[]): void {
  const input = args.pop() ?? "";
  execFileSync("ip", args, { input, stdio: ["pipe", "ignore", "inherit"] });
}

export type Heard = { readonly text: string; readonly from: string; readonly port: number; readonly on: number };

/** UDP sockets in a namespace, held by a process of their own; every datagram that arrives is kept. */
export class Probe {
  readonly ready: Promise<unknown>;
  readonly heard: Heard[] = [];
  readonly #child: ChildProcess;
  readonly #waiting = new Set<() => void>();
  readonly #answers: ((answer: string) => void)[] = [];

  constructor(namespace: string) {
    this.#child = spawn("ip", ["netns", "exec", namespace, process.execPath, "-e", PROBE], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    assert.ok(this.#child.stdout);
    const lines = createInterface({ input: this.#child.stdout });
    this.ready = once(lines, "line").then(() =>
      lines.on("line", (line) => {
        const { answer, ...heard } = JSON.parse(line);
        if (typeof answer === "string") this.#answers.shift()?.(answer);
        else this.heard.push(heard);
        for (const wake of this.#waiting) wake();
      }),
    );
  }

  /** From a local port, opened when it is first used. "sent", or the system's refusal. */
  send(port: number, to: string, toPort: number, text: string): Promise<string> {
    this.#child.stdin?.write(`${JSON.stringify({ port, to, toPort, text })}\n`);
    return new Promise((resolve) => this.#answers.push(resolve));
  }

  listen(port: number): Promise<string> {
    return this.send(port, "", 0, "");
  }

  /** The datagram of that text, now or within the time; undefined when it does not come. */
  async hears(text: string, withinMs: number): Promise<Heard | undefined> {
    const deadline = AbortSignal.timeout(withinMs);
    for (;;) {
      const found = this.heard.find((one) => one.text === text);
      if (found !== undefined || deadline.aborted) return found;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#waiting.delete(wake);
          deadline.removeEventListener("abort", wake);
          resolve();
        };
        this.#waiting.add(wake);
        deadline.addEventListener("abort", wake);
      });
    }
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill("SIGKILL");
    await once(this.#child, "exit");
  }
}

const PROBE = `
const { createSocket } = require("dgram"), sockets = new Map(), tell = (value) => console.log(JSON.stringify(value));
const open = (port, six) => {
  const key = port + (six ? "/6" : "/4");
  if (!sockets.has(key)) sockets.set(key, new Promise((resolve, reject) => {
    const socket = createSocket({ type: six ? "udp6" : "udp4", ipv6Only: six });
    socket.on("message", (m, from) => tell({ text: String(m), from: from.address, port: from.port, on: port }));
    socket.on("error", reject).bind(port, () => resolve(socket));
  }));
  return sockets.get(key);
};
tell({});
require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
  const { port, to, toPort, text } = JSON.parse(line);
  try {
    if (to === "") { await open(port, false); await open(port, true); return tell({ answer: "listening" }); }
    const socket = await open(port, to.includes(":"));
    socket.send(text, toPort, to, (error) => tell({ answer: error ? error.code : "sent" }));
  } catch (error) { tell({ answer: error.code }); }
});`;
