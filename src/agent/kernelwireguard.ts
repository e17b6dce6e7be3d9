import { type Endpoint, formatEndpoint, tryEndpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Key, keyBytes, keyOf, tryKey } from "../kit/key.js";
import { MINUTE, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Exec, Ran } from "../sys/exec.js";
import type { Backend, InterfaceState, PeerState, Probes, WantInterface, WantPeer } from "../wireguard/interface.js";
import { KernelProbes, type OpenSocket } from "./kernelprobes.js";

/**
 * The kernel's WireGuard, through `ip` and `wg`. The interface outlives the process: a restart adopts it, sessions
 * and all; only close() removes it. Configuration goes in by standard input, so that no key is in an argument.
 */
const PROBE_NAME = "exnprobe";
/** A session is good for this long (paper §6.1): an endpoint heard from within it is better than a configured one. */
const SESSION_MS = 3 * MINUTE;
/** How often the probes' table is looked at: a firewall that is loaded anew often takes every table along. */
export const FOLLOW_EVERY_MS = 30 * SECOND;

/** Whether this machine can make a WireGuard interface: found out by making one. The kernel loads its module by itself. */
export async function probeKernelWireGuard(exec: Exec): Promise<boolean> {
  const made = await exec.run(["ip", "link", "add", "dev", PROBE_NAME, "type", "wireguard"]);
  // One left over by a probe that was cut short proves as much.
  const left = made.exitCode !== 0 && /File exists/.test(made.stderr);
  if (made.exitCode !== 0 && !left) return false;
  await exec.run(["ip", "link", "delete", "dev", PROBE_NAME]);
  const tool = await exec.run(["wg", "--version"]).catch(() => undefined);
  return tool?.exitCode === 0;
}

type Wall = Pick<Clock, "wall">;

/** The backend for the interface of that name, which may be there already. */
export class KernelWireGuard implements Backend {
  readonly kind = "kernel";
  readonly probes?: Probes;
  readonly #exec: Exec;
  readonly #clock: Wall;
  readonly #probes: KernelProbes | undefined;
  #name: string;
  #last: WantInterface | undefined;
  #warning: string | undefined;
  #followedAt = 0;
  #turn: Promise<unknown> = Promise.resolve();

  /** Without `openSocket` there are no probes. */
  constructor(exec: Exec, name: string, clock: Wall, openSocket?: OpenSocket) {
    this.#exec = exec;
    this.#name = name;
    this.#clock = clock;
    if (openSocket === undefined) return;
    this.#probes = new KernelProbes(exec, openSocket);
    this.probes = this.#probes;
  }

  set(want: WantInterface): Promise<void> {
    return this.#inTurn(() => this.#set(want));
  }

  async #set(want: WantInterface): Promise<void> {
    if (this.#name !== want.name) await this.close();
    this.#name = want.name;
    await this.#configure(want);
    await this.#follow(want.listenPort === 0 ? await this.#chosenPort(want.name) : want.listenPort);
  }

  async #follow(port: number): Promise<void> {
    this.#followedAt = this.#clock.wall();
    this.#warning = await this.#probes?.follow(port);
  }

  #isFollowDue(): boolean {
    return Math.abs(this.#clock.wall() - this.#followedAt) >= FOLLOW_EVERY_MS;
  }

  point(publicKey: Key, endpoint: Endpoint): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.#last;
      // For `wg set`, a peer that is not there is one to be made.
      if (before?.peers.some((peer) => peer.publicKey === publicKey) !== true) return;
      await this.#must(["wg", "set", before.name, "peer", publicKey, "endpoint", formatEndpoint(endpoint)]);
      const peers = before.peers.map((peer) => (peer.publicKey === publicKey ? { ...peer, endpoint } : peer));
      this.#last = { ...before, peers };
    });
  }

  /** One change after the other: a peer that is being removed must not be made again by a new endpoint. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  /** Port 0 is one of the kernel's choice, which it makes when the interface goes up. */
  async #chosenPort(name: string): Promise<number> {
    await this.#must(["ip", "link", "set", "dev", name, "up"]);
    return (await this.#observe(name))?.listenPort ?? 0;
  }

  async #configure(want: WantInterface): Promise<void> {
    const state = await this.#observe(want.name);
    const before = state === undefined ? undefined : this.#last;
    if (before !== undefined && renderSyncConfig(before) === renderSyncConfig(want)) return;
    if (state === undefined) await this.#must(["ip", "link", "add", "dev", want.name, "type", "wireguard"]);
    // wg opens its file by name, and what Node passes as standard input is a socket, which cannot be opened so:
    // the shell's pipe can.
    await this.#must(["sh", "-c", 'cat | wg syncconf "$1" /dev/stdin', "sh", want.name], {
      input: renderSyncConfig(withKeptPort(want, state), keptEndpoints(want, before, state)),
    });
    this.#last = want;
  }

  async state(): Promise<InterfaceState> {
    const state = await this.#observe(this.#name);
    if (state === undefined) throw new Failure("interface-missing", `there is no interface ${this.#name}`);
    if (this.#isFollowDue())
      await this.#inTurn(async () => {
        // Looked at anew: what was seen above may be from before a change, and its port is then nobody's.
        const now = this.#last === undefined || !this.#isFollowDue() ? undefined : await this.#observe(this.#name);
        if (now !== undefined) await this.#follow(now.listenPort);
      });
    return this.#warning === undefined ? state : { ...state, warnings: [this.#warning] };
  }

  async close(): Promise<void> {
    this.#last = undefined;
    this.#warning = undefined;
    await this.#probes?.close();
    if ((await this.#observe(this.#name)) === undefined) return;
    await this.#must(["ip", "link", "delete", "dev", this.#name]);
  }

  async #observe(name: string): Promise<InterfaceState | undefined> {
    const ran = await this.#exec.run(["wg", "show", name, "dump"]);
    if (ran.exitCode === 0) return parseDump(name, ran.stdout, this.#clock.wall());
    // The second: no interface made yet, and so the module not loaded.
    if (/No such device|Protocol not supported/.test(ran.stderr)) return undefined;
    throw refused(["wg", "show", name, "dump"], ran);
  }

  async #must(argv: readonly string[], options?: { input: string }): Promise<void> {
    const ran = await this.#exec.run(argv, options);
    if (ran.exitCode !== 0) throw refused(argv, ran);
  }
}

/** Standard output is left out: a dump holds the private key. */
function refused(argv: readonly string[], ran: Ran): Failure {
  return new Failure(
    "wireguard-refused",
    `${argv.join(" ")} exited ${ran.exitCode}: ${ran.stderr.trim().slice(-500)}`,
    { advice: "look at the kernel's messages: journalctl --dmesg --grep wireguard" },
  );
}

/**
 * The peers whose endpoint is not to be written: it has not changed since the last set(), and the peer may have
 * moved since; or, for an adopted interface, the peer was heard from a moment ago.
 */
export function keptEndpoints(
  want: WantInterface,
  before: WantInterface | undefined,
  state: InterfaceState | undefined,
): Set<Key> {
  const endpoint = (peer: WantPeer | undefined): string | undefined => peer?.endpoint && formatEndpoint(peer.endpoint);
  const states = new Map(state?.peers.map((peer) => [peer.publicKey, peer]));
  const earlier = new Map(before?.peers.map((peer) => [peer.publicKey, peer]));
  const kept = want.peers.filter((peer) => {
    const now = states.get(peer.publicKey);
    if (now?.endpoint === undefined) return false;
    if (before === undefined) return now.lastHandshakeAgeMs !== undefined && now.lastHandshakeAgeMs < SESSION_MS;
    return endpoint(earlier.get(peer.publicKey)) === endpoint(peer);
  });
  return new Set(kept.map(({ publicKey }) => publicKey));
}

/** Told port 0 again, the kernel would choose another port each time. */
function withKeptPort(want: WantInterface, state: InterfaceState | undefined): WantInterface {
  return want.listenPort === 0 && state !== undefined ? { ...want, listenPort: state.listenPort } : want;
}

/** What `wg syncconf` reads. It leaves the sessions of kept peers alone, and resets what is left out but endpoints. */
export function renderSyncConfig(want: WantInterface, withoutEndpoint: ReadonlySet<Key> = new Set()): string {
  return [
    `[Interface]
PrivateKey = ${clamped(want.privateKey)}
ListenPort = ${want.listenPort}
FwMark = ${want.fwmark === 0 ? "off" : `0x${want.fwmark.toString(16)}`}
`,
    ...want.peers.map((peer) => renderPeer(peer, !withoutEndpoint.has(peer.publicKey))),
  ].join("\n");
}

/**
 * RFC 7748 §5, as the kernel keeps a private key. One that differs from what it keeps is a new one to it, though it
 * be the same number: every session with every peer would end at every change.
 */
function clamped(privateKey: Key): Key {
  const bytes = keyBytes(privateKey);
  bytes[0] = (bytes[0] ?? 0) & 0xf8;
  bytes[31] = ((bytes[31] ?? 0) & 0x7f) | 0x40;
  return keyOf(bytes);
}

function renderPeer(peer: WantPeer, withEndpoint: boolean): string {
  const lines = [
    "[Peer]",
    `PublicKey = ${peer.publicKey}`,
    ...(peer.presharedKey === undefined ? [] : [`PresharedKey = ${peer.presharedKey}`]),
    ...(peer.allowedIps.length === 0 ? [] : [`AllowedIPs = ${peer.allowedIps.join(", ")}`]),
    ...(withEndpoint && peer.endpoint !== undefined ? [`Endpoint = ${formatEndpoint(peer.endpoint)}`] : []),
    `PersistentKeepalive = ${peer.persistentKeepaliveSeconds === 0 ? "off" : peer.persistentKeepaliveSeconds}`,
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * `wg show NAME dump`, tab-separated:
 *
 *   private key, public key, listen port, mark
 *   public key, preshared key, endpoint, allowed IPs, latest handshake in epoch seconds, received, sent, keepalive
 */
export function parseDump(name: string, dump: string, wallMs: number): InterfaceState {
  const [head = "", ...rows] = dump.split("\n").filter((line) => line !== "");
  const fields = head.split("\t");
  if (fields.length !== 4) throw misread(name, `${fields.length} fields instead of 4 in the first line`);
  return {
    name,
    listenPort: count(name, fields[2]),
    peers: rows.map((row) => parsePeer(name, row, wallMs)),
    warnings: [],
  };
}

function parsePeer(name: string, row: string, wallMs: number): PeerState {
  const fields = row.split("\t");
  if (fields.length !== 8) throw misread(name, `${fields.length} fields instead of 8 in a peer's line`);
  const publicKey = tryKey(fields[0] ?? "");
  if (publicKey === undefined) throw misread(name, "a peer's line does not begin with a key");
  // A link-local sender has its interface behind it (RFC 4007 §11), which an endpoint of ours does not.
  const endpoint = fields[2] === "(none)" ? undefined : tryEndpoint((fields[2] ?? "").replace(/%[^\]]*\]/, "]"));
  if (endpoint === undefined && fields[2] !== "(none)") throw misread(name, "a peer's third field is no endpoint");
  const handshakeMs = count(name, fields[4]) * SECOND;
  return {
    publicKey,
    ...(endpoint === undefined ? {} : { endpoint }),
    // The clock may have been set back since.
    ...(handshakeMs === 0 ? {} : { lastHandshakeAgeMs: Math.max(0, wallMs - handshakeMs) }),
    receivedBytes: count(name, fields[5]),
    sentBytes: count(name, fields[6]),
  };
}

function count(name: string, field: string | undefined): number {
  if (field === undefined || !/^\d{1,20}$/.test(field)) throw misread(name, "there is no number where one belongs");
  return Number(field);
}

/** Says nothing of what was printed: with a field too many, a key may stand where another belongs. */
const misread = (name: string, what: string): Failure =>
  new Failure("wireguard-dump", `cannot read what wg show ${name} dump printed: ${what}`);
