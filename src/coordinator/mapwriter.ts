import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import { issueSeal, type MapSeal, mapDigest, peerHash } from "../wire/seal.js";
import type { Device } from "./device.js";
import { Ledger, type News } from "./ledger.js";
import { encodeDelta, encodeMap, headOf, headTexts, type NetworkFacts, peerOf } from "./netmap.js";
import type { Visibility } from "./visibility.js";

/** Heads that take so long are worked out for the HEAD_SHAREth part of the time at most, all of them together. */
export const HEAD_LONG_MS: Millis = 0.25;
export const HEAD_SHARE = 20;

export type MapWriterParts = {
  /** The registry's, live. */
  readonly devices: ReadonlyMap<string, Device>;
  readonly visibility: Visibility;
  readonly facts: NetworkFacts;
  /** A device's first map has the number after it. */
  readonly seqBase: number;
  /** Signs the seals. */
  readonly sealSeed: Uint8Array;
  readonly isOnline: (deviceId: string) => boolean;
  readonly clock: Clock;
};

/** A message to a device as JSON text. */
export type Written = { readonly text: string; readonly seq: number };

/** A peer as JSON, as long as its device and presence are the same; its hash is made when a seal asks for it. */
type PeerText = { readonly text: string; hash?: string };
type PeerTexts = { readonly device: Device; readonly online: boolean; readonly texts: Map<string, PeerText> };

/** Writes what devices are to hear: maps, deltas and seals, from the ledger and texts that are made once. */
export class MapWriter {
  readonly ledger: Ledger;
  readonly #parts: MapWriterParts;
  readonly #peers = new Map<string, PeerTexts>();
  /** The head each device was last told. */
  readonly #heads = new Map<string, ReadonlyMap<string, string>>();
  /** Those whose head takes long; and when the next one of them may be worked out. */
  readonly #long = new Set<string>();
  #longAt: Millis = 0;
  /** Of these, whose head is to be told yet: the one that has waited longest first. */
  readonly #late = new Set<string>();

  constructor(parts: MapWriterParts) {
    this.#parts = parts;
    this.ledger = new Ledger(parts);
  }

  /** What a device has yet to hear; undefined when there is nothing. Whole, unless it understands deltas. */
  next(deviceId: string, speaksDelta: boolean, confirm: boolean): Written | undefined {
    const self = this.#parts.devices.get(deviceId);
    if (!speaksDelta && !this.ledger.isClean(deviceId)) this.ledger.startOver(deviceId);
    const before = this.#heads.get(deviceId);
    if (before === undefined) this.ledger.startOver(deviceId);
    const news = self === undefined ? undefined : this.ledger.take(deviceId);
    if (self === undefined || news === undefined) return undefined;
    const { seq } = news;
    const wish = confirm ? `,"confirm":true` : "";
    const head = this.#nextHead(self, news, confirm, before);
    if (news.kind === "whole") {
      this.ledger.told(deviceId, seq);
      const peers = news.peers.map((peer) => this.#peer(self, peer).text);
      return { text: `{"type":"map","map":${encodeMap(seq, head, peers)}${wish}}`, seq };
    }
    const changed = new Map([...head].filter(([name, text]) => before?.get(name) !== text));
    const cleared = [...(before?.keys() ?? [])].filter((name) => !head.has(name));
    const set = news.set.map((peer) => this.#peer(self, peer).text);
    if (set.length + news.removed.length + changed.size + cleared.length === 0) return undefined;
    this.ledger.told(deviceId, seq);
    return {
      text: `{"type":"delta","delta":${encodeDelta(news, news.removed, set, { changed, cleared })}${wish}}`,
      seq,
    };
  }

  /** Proves the map that the device has; undefined while there is something it has not been told. */
  seal(deviceId: string, now: Millis): MapSeal | undefined {
    const self = this.#parts.devices.get(deviceId);
    const head = this.#heads.get(deviceId);
    if (self === undefined || head === undefined || !this.ledger.isClean(deviceId)) return undefined;
    const peers = this.#parts.visibility.peersOf(self).map((peer) => this.#hash(self, peer));
    return issueSeal(this.#parts.sealSeed, this.ledger.seqOf(deviceId), mapDigest(head, peers), now);
  }

  /** The texts name relays that may be no more. */
  forgetTexts(): void {
    this.#peers.clear();
    this.ledger.changeAll();
  }

  /** The device is gone for good. */
  forget(deviceId: string): void {
    this.#peers.delete(deviceId);
    this.#heads.delete(deviceId);
    this.#long.delete(deviceId);
    this.#late.delete(deviceId);
    this.ledger.forget(deviceId);
  }

  /**
   * The head to be told with the news. A revocation does not wait for it; and where it takes long, as an exit node's
   * rules for ten thousand devices do, it is worked out now and then and not at every change.
   */
  #nextHead(
    self: Device,
    news: News,
    urgent: boolean,
    before: ReadonlyMap<string, string> | undefined,
  ): ReadonlyMap<string, string> {
    const { clock } = this.#parts;
    const wanted = news.kind === "whole" || news.head;
    if (before !== undefined && !wanted) return before;
    const startedAt = clock.now();
    const isEarly = this.#long.has(self.id) && startedAt < this.#longAt;
    if (before !== undefined && news.kind === "delta" && (urgent || isEarly)) {
      this.ledger.headLater(self.id);
      this.#late.add(self.id);
      return before;
    }
    const head = headTexts(headOf(self, this.#parts.facts, this.#parts.visibility.filterOf(self)));
    this.#heads.set(self.id, head);
    this.#late.delete(self.id);
    const tookMs = clock.now() - startedAt;
    if (tookMs < HEAD_LONG_MS) this.#long.delete(self.id);
    else {
      this.#long.add(self.id);
      this.#longAt = startedAt + tookMs * HEAD_SHARE;
    }
    return head;
  }

  /** When the first head that could not be told with the news can be. */
  lateAt(): Millis | undefined {
    for (const id of this.#late) if (!this.#long.has(id)) return 0;
    return this.#late.size === 0 ? undefined : this.#longAt;
  }

  /** Whose late head can be told now: of the long ones, the one that has waited longest. */
  takeLate(now: Millis): string[] {
    const taken: string[] = [];
    for (const id of this.#late) {
      if (this.#long.has(id) && (now < this.#longAt || taken.some((one) => this.#long.has(one)))) continue;
      taken.push(id);
      this.#late.delete(id);
    }
    return taken;
  }

  /** Whoever may use the same routes through a device is told the same text. */
  #peer(viewer: Device, device: Device): PeerText {
    const { isOnline, facts, visibility } = this.#parts;
    const online = isOnline(device.id);
    const routes = visibility.routesFor(viewer, device);
    const key = routes.join(" ");
    const known = this.#peers.get(device.id);
    const all = known?.device === device && known.online === online ? known : { device, online, texts: new Map() };
    this.#peers.set(device.id, all);
    const made: PeerText = all.texts.get(key) ?? { text: JSON.stringify({ ...peerOf(device, online, facts), routes }) };
    all.texts.set(key, made);
    return made;
  }

  #hash(viewer: Device, device: Device): string {
    const peer = this.#peer(viewer, device);
    peer.hash ??= peerHash(peer.text);
    return peer.hash;
  }
}
