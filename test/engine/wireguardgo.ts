import { type ChildProcess, execFileSync } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { mustRun } from "../../src/sys/exec.js";
import { until } from "./patience.js";
import { must, type Place, startWireguardGo, stop } from "./places.js";

/** The other implementation: Debian's wireguard-go, a program in a place. */
export type Program = { readonly version: string; readonly path: string };

/** Debian 13's, with offloads. EXITNODE_WIREGUARD_GO names it where it was fetched before. */
export const NEWER: Program = { version: "0.0.20231211", path: process.env.EXITNODE_WIREGUARD_GO ?? fetched() };
/** Debian 12's comes first, where it is installed. */
export const PROGRAMS: readonly Program[] = [...installed(), NEWER];

function fetched(): string {
  const script = fileURLToPath(new URL("../../../scripts/fetch-wireguard-go", import.meta.url));
  return execFileSync(script, { encoding: "utf8" }).trim();
}

function installed(): Program[] {
  const found = execFileSync("dpkg-query", ["-W", "wireguard-go"], { encoding: "utf8" });
  const version = found.split("\t")[1]?.split("-")[0] ?? "";
  return version === NEWER.version ? [] : [{ version, path: "wireguard-go" }];
}

export type Identity = { readonly privateKey: Key; readonly publicKey: Key };

/** The same name, the same keys. */
export function identityOf(name: string): Identity {
  const { privateKey, publicKey } = keyPairOf(hash(utf8(name)));
  return { privateKey: keyOf(privateKey), publicKey: keyOf(publicKey) };
}

export type GoPeer = {
  readonly publicKey: Key;
  readonly presharedKey?: Key;
  readonly endpoint?: string;
  readonly allowedIps: string;
  readonly persistentKeepaliveSeconds?: number;
};

export class WireguardGo {
  readonly place: Place;
  readonly device: string;
  readonly pid: number | undefined;
  readonly #child: ChildProcess;
  #said: string[] = [];

  private constructor(place: Place, device: string, child: ChildProcess) {
    this.place = place;
    this.device = device;
    this.pid = child.pid;
    this.#child = child;
    if (child.stdout !== null) createInterface({ input: child.stdout }).on("line", (line) => this.#said.push(line));
  }

  static async start(place: Place, device: string, program: Program): Promise<WireguardGo> {
    return new WireguardGo(place, device, await startWireguardGo(place, device, program.path));
  }

  /** Replaces the whole configuration, and with it every session. */
  async configure(identity: Identity, listenPort: number, peers: readonly GoPeer[], fwmark = 0): Promise<void> {
    const lines = [`[Interface]`, `PrivateKey = ${identity.privateKey}`, `ListenPort = ${listenPort}`];
    if (fwmark !== 0) lines.push(`FwMark = ${fwmark}`);
    for (const peer of peers) {
      lines.push("[Peer]", `PublicKey = ${peer.publicKey}`, `AllowedIPs = ${peer.allowedIps}`);
      if (peer.presharedKey !== undefined) lines.push(`PresharedKey = ${peer.presharedKey}`);
      if (peer.endpoint !== undefined) lines.push(`Endpoint = ${peer.endpoint}`);
      lines.push(`PersistentKeepalive = ${peer.persistentKeepaliveSeconds ?? 0}`);
    }
    const setconf = ["sh", "-c", 'cat | wg setconf "$1" /dev/stdin', "sh", this.device];
    await mustRun(this.place.exec, setconf, { input: `${lines.join("\n")}\n` });
  }

  async up(mtu: number, ...addresses: readonly string[]): Promise<void> {
    await must(this.place, `ip link set ${this.device} mtu ${mtu} up`);
    for (const address of addresses)
      await must(this.place, `ip address add ${address} dev ${this.device}${address.includes(":") ? " nodad" : ""}`);
  }

  wg(words: string): Promise<string> {
    return must(this.place, `wg ${words.replace("DEVICE", this.device)}`);
  }

  /** Bytes received from its peers. */
  async received(): Promise<number> {
    const lines = (await this.wg("show DEVICE transfer")).trim().split("\n");
    return lines.reduce((sum, line) => sum + Number(line.split("\t")[1]), 0);
  }

  /** Where it sends to its one peer. */
  async endpoint(): Promise<string> {
    return (await this.wg("show DEVICE endpoints")).trim().split("\t")[1] ?? "";
  }

  /** How often its log said so since the last forget(). */
  count(text: string): number {
    return this.#said.filter((line) => line.includes(text)).length;
  }

  says(text: string, times = 1): Promise<number> {
    return until(`wireguard-go says "${text}"`, () => this.count(text) >= times);
  }

  forget(): void {
    this.#said = [];
  }

  stop(): Promise<void> {
    return stop(this.#child);
  }
}
