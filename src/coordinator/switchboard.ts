import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import { REFUSALS, type ToDevice } from "../wire/control.js";
import { isMember } from "./device.js";
import type { Link } from "./link.js";
import { MapWriter } from "./mapwriter.js";
import type { NetworkFacts } from "./netmap.js";
import type { OtherCoordinators } from "./othercoordinators.js";
import { RECEIPT_DEVICES_MAX, type Receipt, sumOf } from "./receipts.js";
import type { DevicesNow } from "./registry.js";
import { Sealing } from "./sealing.js";
import type { Visibility } from "./visibility.js";

/** How long a revocation's answer waits for the connected peers to confirm that it is in force. */
export const TOLD_TIMEOUT_MS: Millis = 2_000;
/** The others wait as long for their own devices before they tell. */
const TOLD_ELSEWHERE_TIMEOUT_MS: Millis = TOLD_TIMEOUT_MS + 500;

/** After a round of news, in shares of what it took: what comes in a storm goes out together. */
const QUIET_SHARE = { min: 2, max: 8, maxMs: 50 };
const quietAfter = (tookMs: Millis): Millis =>
  Math.max(QUIET_SHARE.min * tookMs, Math.min(QUIET_SHARE.max * tookMs, QUIET_SHARE.maxMs));

const EXPELLED: ToDevice = { type: "refused", code: "device-revoked", message: REFUSALS["device-revoked"] };

export type SwitchboardParts = {
  /** The registry's, live. */
  readonly devices: DevicesNow;
  readonly visibility: Visibility;
  readonly facts: NetworkFacts;
  readonly clock: Clock;
  /** Left out where there is one coordinator alone. */
  readonly others?: OtherCoordinators;
  /** Map numbers start above it. */
  readonly seqBase: number;
  /** Signs the maps that devices keep. */
  readonly sealSeed: Uint8Array;
};

/** How far a revocation has got when its answer is given. */
export type Told = Receipt & {
  /** Other coordinators that have not told of their devices, which are not counted. */
  readonly unheard?: number;
};

/** Who is connected, and who has to hear of a change. */
export class Switchboard {
  readonly #parts: SwitchboardParts;
  readonly #links = new Map<string, { readonly link: Link; readonly publicKey: Key }>();
  /** Who answers to a WireGuard key now: the ids of connected devices. */
  readonly #byKey = new Map<Key, string>();
  /** What went from device to device through us since the start. */
  readonly calls = { forwarded: 0, bytes: 0 };
  readonly #writer: MapWriter;
  readonly #sealing: Sealing;
  /** Connected devices that have something to hear at the next flush. */
  readonly #due = new Set<string>();
  #flushing = false;
  #headsWait = false;
  #quietUntil: Millis = 0;
  readonly #over = new AbortController();

  constructor(parts: SwitchboardParts) {
    this.#parts = parts;
    this.#writer = new MapWriter({ ...parts, isOnline: (id) => this.isOnline(id) });
    this.#sealing = new Sealing(parts.clock, (id) => this.#seal(id));
  }

  get online(): number {
    return this.#links.size;
  }

  isOnline(deviceId: string): boolean {
    return this.#links.has(deviceId) || this.#parts.others?.has(deviceId) === true;
  }

  /** Connected to this very coordinator. */
  *connected(): Iterable<string> {
    yield* this.#links.keys();
  }

  /** A device has come to another coordinator, or left it; a connection it had here before is ended. */
  changedElsewhere(deviceId: string): void {
    if (this.#parts.others?.has(deviceId)) this.#links.get(deviceId)?.link.close();
    this.changed(deviceId);
  }

  /** A sealed probe from another coordinator's device. */
  callFromElsewhere(deviceId: string, from: Key, probe: string): void {
    this.#links.get(deviceId)?.link.pass({ type: "call", from, probe });
  }

  /** A device has come in; a connection it had before is ended, for it is a dead one or a copy of the machine. */
  join(link: Link): void {
    const { deviceId } = link;
    const device = this.#parts.devices.get(deviceId);
    // Revoked while its hello was being answered.
    if (device === undefined || !isMember(device)) {
      link.close(EXPELLED);
      return;
    }
    const before = this.#forgetLink(deviceId);
    this.#links.set(deviceId, { link, publicKey: device.publicKey });
    this.#byKey.set(device.publicKey, deviceId);
    before?.close();
    this.#parts.others?.came(deviceId);
    this.#writer.ledger.open(deviceId, link.want.haveSeq);
    this.changed(deviceId);
  }

  /** A link has ended; false when the device has a newer one. */
  leave(link: Link): boolean {
    if (this.#links.get(link.deviceId)?.link !== link) return false;
    this.#forgetLink(link.deviceId);
    this.#parts.others?.left(link.deviceId);
    this.changed(link.deviceId);
    return true;
  }

  /** A device could make nothing of a delta. */
  resync(deviceId: string): void {
    this.#writer.ledger.startOver(deviceId);
    this.#schedule([deviceId]);
  }

  /** Hands a sealed probe to the connected holder of a key, unread; dropped where the two may not know one another. */
  call(fromId: string, to: Key, probe: string): void {
    const { devices, visibility, others } = this.#parts;
    const toId = this.#byKey.get(to) ?? this.#elsewhere(to);
    const [caller, called] = [devices.get(fromId), devices.get(toId ?? "")];
    if (caller === undefined || called === undefined || !visibility.mayKnow(caller, called)) return;
    const link = this.#links.get(called.id)?.link;
    const passed =
      link === undefined
        ? others?.call(called.id, caller.publicKey, probe)
        : link.pass({ type: "call", from: caller.publicKey, probe });
    if (passed !== true) return;
    this.calls.forwarded++;
    this.calls.bytes += probe.length;
  }

  /** The map's relays are others than before, and with them the peers' homes. */
  relaysChanged(): void {
    this.#writer.forgetTexts();
    this.#schedule(this.#links.keys());
  }

  /**
   * Something about the device has changed or, without an id, anything about anybody. Those it concerns are told at
   * once, except that after a round of news the next one waits (QUIET_SHARE). Alone, a change goes out immediately; a
   * storm of joins costs a third of the processor at most.
   */
  changed(deviceId?: string): void {
    if (deviceId === undefined) this.#writer.ledger.changeAll();
    this.#schedule(deviceId === undefined ? this.#links.keys() : this.#writer.ledger.change(deviceId));
  }

  /** Takes a revoked or removed device off the network: its peers hear it first, without waiting for any turn. */
  async expel(deviceId: string): Promise<Told> {
    const [here, elsewhere] = await Promise.all([
      this.expelHere(deviceId),
      this.#parts.others?.receipts(deviceId, TOLD_ELSEWHERE_TIMEOUT_MS) ?? { receipts: [], unheard: 0 },
    ]);
    const { receipts, unheard } = elsewhere;
    return { ...sumOf([here, ...receipts]), ...(unheard === 0 ? {} : { unheard }) };
  }

  /** The part of this coordinator's devices alone. */
  async expelHere(deviceId: string): Promise<Receipt> {
    const { clock, devices, others } = this.#parts;
    const startedAt = clock.now();
    const link = this.#forgetLink(deviceId);
    const concerned = this.#writer.ledger.change(deviceId).filter((id) => id !== deviceId && this.#links.has(id));
    const told = new Map<string, Millis>();
    const waits = this.#exitsFirst(concerned).map((id) =>
      this.#push(id, true).then(() => told.set(id, Math.round(clock.now() - startedAt))),
    );
    if (link !== undefined) others?.left(deviceId);
    link?.close(EXPELLED);
    void this.#heads();
    this.#writer.forget(deviceId);
    // What the device keeps on its disk must not outlive this by the usual half minute.
    for (const id of concerned) this.#sealing.hurry(id);
    const deadline = new AbortController();
    await Promise.race([Promise.all(waits), clock.sleep(TOLD_TIMEOUT_MS, deadline.signal).catch(() => undefined)]);
    deadline.abort();
    const nameOf = (id: string): string => devices.get(id)?.name ?? id;
    const slowest = [...told].sort(([, a], [, b]) => b - a).slice(0, RECEIPT_DEVICES_MAX);
    return {
      peers: concerned.length,
      confirmed: told.size,
      tookMs: clock.now() - startedAt,
      devices: slowest.map(([id, ms]) => ({ name: nameOf(id), ms })),
      silent: concerned
        .filter((id) => !told.has(id))
        .slice(0, RECEIPT_DEVICES_MAX)
        .map(nameOf),
    };
  }

  /** Ends every connection. */
  close(): void {
    this.#over.abort();
    this.#sealing.close();
    for (const { link } of this.#links.values()) link.close();
    this.#links.clear();
    this.#byKey.clear();
  }

  #forgetLink(deviceId: string): Link | undefined {
    const known = this.#links.get(deviceId);
    this.#links.delete(deviceId);
    // Another device may have brought the same key since.
    if (known !== undefined && this.#byKey.get(known.publicKey) === deviceId) this.#byKey.delete(known.publicKey);
    return known?.link;
  }

  /** The holder of a key that is connected to another coordinator. */
  #elsewhere(key: Key): string | undefined {
    const { devices, others } = this.#parts;
    const id = devices.memberByPublicKey(key)?.id;
    return id !== undefined && others?.has(id) ? id : undefined;
  }

  #schedule(ids: Iterable<string>): void {
    for (const id of ids) if (this.#links.has(id)) this.#due.add(id);
    if (this.#flushing || this.#due.size === 0) return;
    this.#flushing = true;
    void this.#flushLater();
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
    const { clock } = this.#parts;
    const startedAt = clock.now();
    const due = this.#exitsFirst([...this.#due]);
    this.#due.clear();
    for (const id of due) this.#push(id, false);
    const endedAt = clock.now();
    this.#quietUntil = endedAt + quietAfter(endedAt - startedAt);
    void this.#heads();
  }

  /** Tells the heads that were too long to go with the last news. */
  async #heads(): Promise<void> {
    const { clock } = this.#parts;
    if (this.#headsWait) return;
    this.#headsWait = true;
    for (let at = this.#writer.lateAt(); at !== undefined; at = this.#writer.lateAt()) {
      await clock.sleep(Math.max(0, at - clock.now()), this.#over.signal).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      this.#schedule(this.#writer.takeLate(clock.now()));
    }
    this.#headsWait = false;
  }

  /** They are what a revoked device must lose. */
  #exitsFirst(ids: readonly string[]): string[] {
    const isExit = (id: string): boolean => this.#parts.devices.get(id)?.role === "exit-node";
    return [...ids.filter(isExit), ...ids.filter((id) => !isExit(id))];
  }

  async #push(deviceId: string, confirmed: boolean): Promise<void> {
    const link = this.#links.get(deviceId)?.link;
    if (link === undefined) return;
    const make = (confirm: boolean) => {
      const news = this.#writer.next(deviceId, link.want.speaksDelta, confirm);
      if (news !== undefined && link.want.speaksDelta) this.#sealing.want(deviceId);
      return news;
    };
    if (confirmed) await link.pushConfirmed(make);
    else link.push(make);
  }

  /** False while the device has something else to hear. */
  #seal(deviceId: string): boolean {
    const link = this.#links.get(deviceId)?.link;
    if (link === undefined || link.ended || !link.want.speaksDelta) return true;
    const seal = link.idle ? this.#writer.seal(deviceId, this.#parts.clock.wall()) : undefined;
    if (seal !== undefined) link.send({ type: "seal", seal });
    return seal !== undefined;
  }
}
