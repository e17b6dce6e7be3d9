import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import { REFUSALS, type ToDevice } from "../wire/control.js";
import { type Device, isMember } from "./device.js";
import type { Link } from "./link.js";
import { encodeMap, type NetworkFacts, peerOf } from "./netmap.js";
import type { Visibility } from "./visibility.js";

/** How long a revocation's answer waits for the connected peers to confirm that they know. */
export const TOLD_TIMEOUT_MS: Millis = 2_000;

const EXPELLED: ToDevice = { type: "refused", code: "device-revoked", message: REFUSALS["device-revoked"] };

export type SwitchboardParts = {
  /** The registry's, live. */
  readonly devices: ReadonlyMap<string, Device>;
  readonly visibility: Visibility;
  readonly facts: NetworkFacts;
  readonly clock: Clock;
  /** Map numbers start above it. */
  readonly seqBase: number;
};

/** How far a change has got when its answer is given. */
export type Told = { readonly peers: number; readonly confirmed: number; readonly tookMs: Millis };

/** Who is connected, and who has to hear of a change. */
export class Switchboard {
  readonly #parts: SwitchboardParts;
  readonly #links = new Map<string, Link>();
  /** Who answers to a WireGuard key now: the ids of connected devices. */
  readonly #byKey = new Map<Key, string>();
  /** What went from device to device through us since the start. */
  readonly calls = { forwarded: 0, bytes: 0 };
  /** A peer as JSON, as long as its device and presence are the same. */
  readonly #texts = new Map<string, { device: Device; online: boolean; text: string }>();
  #version = 0;
  #flushing = false;
  #quietUntil: Millis = 0;
  readonly #over = new AbortController();

  constructor(parts: SwitchboardParts) {
    this.#parts = parts;
  }

  get online(): number {
    return this.#links.size;
  }

  isOnline(deviceId: string): boolean {
    return this.#links.has(deviceId);
  }

  /** A device has come in; a connection it had before is ended, for it is a dead one or a copy of the machine. */
  join(link: Link): void {
    const device = this.#parts.devices.get(link.deviceId);
    // Revoked while its hello was being answered.
    if (device === undefined || !isMember(device)) {
      link.close(EXPELLED);
      return;
    }
    const before = this.#links.get(link.deviceId);
    this.#links.set(link.deviceId, link);
    if (before !== undefined) this.#forgetKey(link.deviceId);
    this.#byKey.set(device.publicKey, link.deviceId);
    before?.close();
    this.changed();
  }

  /** A link has ended; false when the device has a newer one. */
  leave(link: Link): boolean {
    if (this.#links.get(link.deviceId) !== link) return false;
    this.#links.delete(link.deviceId);
    this.#forgetKey(link.deviceId);
    this.changed();
    return true;
  }

  /** Hands a sealed probe to the connected holder of a key, unread; dropped where the two may not know one another. */
  call(fromId: string, to: Key, probe: string): void {
    const { devices, visibility } = this.#parts;
    const toId = this.#byKey.get(to);
    const link = toId === undefined ? undefined : this.#links.get(toId);
    const [caller, called] = [devices.get(fromId), devices.get(toId ?? "")];
    if (link === undefined || caller === undefined || called === undefined || !visibility.mayKnow(caller, called))
      return;
    if (!link.pass({ type: "call", from: caller.publicKey, probe })) return;
    this.calls.forwarded++;
    this.calls.bytes += probe.length;
  }

  /** The map's relays are others than before, and with them the peers' homes. */
  relaysChanged(): void {
    this.#texts.clear();
    this.changed();
  }

  /**
   * Something in the maps has changed: they are sent at once, except that after a round of maps the next one waits
   * twice as long as the round took. Alone, a change goes out immediately; a storm of joins costs a third of the
   * processor at most.
   */
  changed(): void {
    this.#version++;
    if (this.#flushing) return;
    this.#flushing = true;
    void this.#flushLater();
  }

  /** Takes a revoked or removed device off the network: the peers' maps first, without waiting for any turn. */
  async expel(deviceId: string): Promise<Told> {
    const { clock } = this.#parts;
    const startedAt = clock.now();
    const link = this.#links.get(deviceId);
    this.#links.delete(deviceId);
    this.#forgetKey(deviceId);
    this.#texts.delete(deviceId);
    this.#version++;
    const version = this.#version;
    this.#flush();
    link?.close(EXPELLED);
    const links = [...this.#links.values()];
    let confirmed = 0;
    const deadline = new AbortController();
    await Promise.race([
      Promise.all(links.map((one) => one.told(version).then(() => confirmed++))),
      clock.sleep(TOLD_TIMEOUT_MS, deadline.signal).catch(() => undefined),
    ]);
    deadline.abort();
    return { peers: links.length, confirmed, tookMs: clock.now() - startedAt };
  }

  /** Ends every connection. */
  close(): void {
    this.#over.abort();
    for (const link of this.#links.values()) link.close();
    this.#links.clear();
    this.#byKey.clear();
  }

  /** A walk over some thousand keys at most, and devices come and go seldom. */
  #forgetKey(deviceId: string): void {
    for (const [key, id] of this.#byKey) if (id === deviceId) this.#byKey.delete(key);
  }

  async #flushLater(): Promise<void> {
    const { clock } = this.#parts;
    // One turn of the event loop at least: changes that came in together go out together.
    const pause = Math.max(0, this.#quietUntil - clock.now());
    await clock.sleep(pause, this.#over.signal).catch(() => undefined);
    this.#flushing = false;
    if (!this.#over.signal.aborted) this.#flush();
  }

  #flush(): void {
    const { clock, devices } = this.#parts;
    const startedAt = clock.now();
    // Exit nodes first: they are what a revoked device must lose.
    const isExit = ({ deviceId }: Link): boolean => devices.get(deviceId)?.role === "exit-node";
    const links = [...this.#links.values()];
    for (const link of [...links.filter(isExit), ...links.filter((one) => !isExit(one))])
      link.push(() => this.#mapFor(link.deviceId));
    const endedAt = clock.now();
    this.#quietUntil = endedAt + 2 * (endedAt - startedAt);
  }

  #mapFor(deviceId: string): { text: string; version: number } {
    const { devices, visibility, facts, seqBase } = this.#parts;
    const self = devices.get(deviceId);
    const version = this.#version;
    // Expelled between the push and its turn: its link is closing.
    if (self === undefined) return { text: JSON.stringify({ type: "pong", sentAt: 0 }), version };
    const peers: string[] = [];
    for (const other of visibility.peersOf(self)) peers.push(this.#textOf(other));
    return { text: `{"type":"map","map":${encodeMap(seqBase + version, self, peers, facts)}}`, version };
  }

  #textOf(device: Device): string {
    const online = this.isOnline(device.id);
    const cached = this.#texts.get(device.id);
    if (cached?.device === device && cached.online === online) return cached.text;
    const text = JSON.stringify(peerOf(device, online, this.#parts.facts));
    this.#texts.set(device.id, { device, online, text });
    return text;
  }
}
