import { KEY_BYTES, type Key, keyBytes } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import { type Rate, TokenBucket } from "../kit/tokenbucket.js";
import { type Admission, RATE_CLASSES } from "../wire/admission.js";
import type { RelayLimits } from "./limits.js";
import type { Outbox, Port } from "./outbox.js";

/** Where datagrams for one key go: its connections, and the one that sent last. */
export type Place = {
  /** Under which the directory has it. */
  readonly name: string;
  /** The key as eight numbers, for comparing and writing four bytes at a time. */
  readonly words: readonly number[];
  /** Oldest first; few, and mostly one. */
  readonly members: Member[];
  active: Member | undefined;
};

/** The longest a rate-limited device is held before it may send in one piece what it has saved up. */
const BURST_MS = 250;
const BURST_BYTES_MIN = 65_536;
/** GONE notes, and dial-backs, that one device can cause. */
const NOTES_MAX: Rate = { perSecond: 2, burst: 8 };
const DIAL_BACKS_MAX: Rate = { perSecond: 0.5, burst: 3 };

/** One logged-in connection. */
export class Member {
  readonly machineKey: Key;
  readonly publicKey: Key;
  readonly network: number;
  readonly port: Port;
  readonly outbox: Outbox;
  readonly place: Place;
  readonly bucket: TokenBucket;
  // Made when first asked for: an idle device never does.
  #notes: TokenBucket | undefined;
  #dialBacks: TokenBucket | undefined;
  /** On the clock of `now`. */
  expiresAt: Millis;
  issuedAt: Millis;
  heardAt: Millis;
  pingedAt: Millis;
  ping: Uint8Array | undefined;
  /** Where the last frame went: the next one mostly goes there too. */
  lastTo: Place | undefined;
  over = false;

  constructor(
    given: {
      readonly admission: Admission;
      readonly network: number;
      readonly port: Port;
      readonly outbox: Outbox;
      readonly place: Place;
      readonly limits: RelayLimits;
      readonly expiresAt: Millis;
    },
    now: Millis,
  ) {
    const { admission, limits } = given;
    this.machineKey = admission.machineKey;
    this.publicKey = admission.publicKey;
    this.network = given.network;
    this.port = given.port;
    this.outbox = given.outbox;
    this.place = given.place;
    const perSecond = Math.min(RATE_CLASSES[admission.rateClass] ?? 0, limits.bytesPerSecondMax);
    this.bucket = new TokenBucket({ perSecond, burst: Math.max(BURST_BYTES_MIN, (perSecond * BURST_MS) / SECOND) });
    this.expiresAt = given.expiresAt;
    this.issuedAt = admission.issuedAt;
    this.heardAt = now;
    this.pingedAt = now;
  }

  /** True when it may cause one more GONE note now. */
  spendNote(now: Millis): boolean {
    this.#notes ??= new TokenBucket(NOTES_MAX);
    return this.#notes.spend(1, now);
  }

  spendDialBack(now: Millis): boolean {
    this.#dialBacks ??= new TokenBucket(DIAL_BACKS_MAX);
    return this.#dialBacks.spend(1, now);
  }
}

/** All members by network and key. */
export class Directory {
  readonly #places = new Map<string, Place>();
  readonly members = new Set<Member>();

  /** The place of a key, made when it is not there. */
  open(network: number, key: Key): Place {
    const bytes = keyBytes(key);
    const name = nameOf(network, bytes, 0);
    const found = this.#places.get(name);
    if (found !== undefined) return found;
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const words = Array.from({ length: KEY_BYTES / 4 }, (_, i) => view.getInt32(i * 4));
    const place: Place = { name, words, members: [], active: undefined };
    this.#places.set(name, place);
    return place;
  }

  find(network: number, buffer: Uint8Array, at: number): Place | undefined {
    return this.#places.get(nameOf(network, buffer, at));
  }

  add(member: Member): void {
    member.place.members.push(member);
    member.place.active = member;
    this.members.add(member);
  }

  remove(member: Member): void {
    const { place } = member;
    this.members.delete(member);
    const at = place.members.indexOf(member);
    if (at >= 0) place.members.splice(at, 1);
    if (place.active === member) place.active = place.members.at(-1);
    if (place.members.length === 0) this.#places.delete(place.name);
  }
}

function nameOf(network: number, buffer: Uint8Array, at: number): string {
  const key = Buffer.from(buffer.buffer, buffer.byteOffset + at, KEY_BYTES).toString("latin1");
  return String.fromCharCode(network) + key;
}
