import type { Device } from "./device.js";
import { PeerPairs } from "./peerpairs.js";
import type { Visibility } from "./visibility.js";

/** Changes noted one by one for a device; from then on, when they are more than half of its peers, it gets them all. */
export const NOTED_MAX = 256;

export type LedgerParts = {
  /** The registry's, live. */
  readonly devices: ReadonlyMap<string, Device>;
  readonly visibility: Visibility;
  /** A device's first map has the number after it. */
  readonly seqBase: number;
};

/** What a device is to hear next. `head` says whether its head may differ too. */
export type News =
  | { readonly kind: "whole"; readonly seq: number; readonly peers: readonly Device[] }
  | {
      readonly kind: "delta";
      readonly base: number;
      readonly seq: number;
      readonly set: readonly Device[];
      readonly removed: readonly string[];
      readonly head: boolean;
    };

/** What one device was told, and what has changed for it since. */
type Page = { seq: number; noted: Set<string> | "all"; head: boolean; peers: number };

/**
 * Keeps for every device that was here since the start what it has yet to hear. A change is noted for those it
 * concerns and for nobody else; many changes before a device's turn are one piece of news; a device that comes back
 * with the number it left with hears what it missed. No sockets and no texts.
 */
export class Ledger {
  readonly #parts: LedgerParts;
  readonly #pages = new Map<string, Page>();
  /** As of the changes so far. */
  readonly #peers = new PeerPairs();
  /** What others' rules and names may depend on, as it was when the device last changed. */
  readonly #standings = new Map<string, string>();

  constructor(parts: LedgerParts) {
    this.#parts = parts;
  }

  /** Begins or goes on with a device's page; without the number of its last news it is told everything. */
  open(id: string, haveSeq: number | undefined): void {
    const page = this.#pages.get(id);
    if (page === undefined) this.#pages.set(id, { seq: this.#parts.seqBase, noted: "all", head: true, peers: 0 });
    else if (page.seq !== haveSeq) page.noted = "all";
  }

  /** Its next news is the whole map. */
  startOver(id: string): void {
    const page = this.#pages.get(id);
    if (page !== undefined) page.noted = "all";
  }

  /** Notes a device's change, coming and going included; returns whom it concerns, the device itself among them. */
  change(id: string): string[] {
    const { devices, visibility } = this.#parts;
    const device = devices.get(id);
    const now = new Set(device === undefined ? [] : visibility.peersOf(device).map((peer) => peer.id));
    const before = this.#peers.of(id);
    // Where it is reached concerns nobody's rules: most changes are of that kind, and an exit node's rules are long.
    const standing = device === undefined ? "" : standingText(device);
    const wasOther = standing !== this.#standings.get(id);
    this.#standings.set(id, standing);
    for (const other of before)
      if (!now.has(other)) {
        this.#peers.remove(id, other);
        this.#note(id, other, true);
        this.#note(other, id, true);
      }
    for (const other of now) {
      const isNew = !this.#peers.has(id, other);
      if (isNew) {
        this.#peers.add(id, other);
        this.#note(id, other, true);
      }
      this.#note(other, id, isNew || wasOther);
    }
    const own = this.#pages.get(id);
    if (own !== undefined) own.head = true;
    // What it may do with its peers' routes may be something else now.
    if (own !== undefined && wasOther) own.noted = "all";
    return [id, ...new Set([...before, ...now])];
  }

  /** The device is gone for good; change() has told its peers. */
  forget(id: string): void {
    this.#peers.forget(id);
    this.#pages.delete(id);
    this.#standings.delete(id);
  }

  /** Anything may be different for anybody. */
  changeAll(): void {
    for (const page of this.#pages.values()) page.noted = "all";
  }

  isClean(id: string): boolean {
    const page = this.#pages.get(id);
    return page !== undefined && page.noted !== "all" && page.noted.size === 0 && !page.head;
  }

  seqOf(id: string): number {
    return this.#pages.get(id)?.seq ?? 0;
  }

  /** The head that was taken was not looked at. */
  headLater(id: string): void {
    const page = this.#pages.get(id);
    if (page !== undefined) page.head = true;
  }

  /** What was taken last has this number, and was sent. */
  told(id: string, seq: number): void {
    const page = this.#pages.get(id);
    if (page !== undefined) page.seq = seq;
  }

  /** What the device has not heard, which is then noted no more; undefined when there is nothing. */
  take(id: string): News | undefined {
    const { devices, visibility } = this.#parts;
    const page = this.#pages.get(id);
    const self = devices.get(id);
    if (page === undefined || self === undefined || this.isClean(id)) return undefined;
    const { noted, head, seq: base } = page;
    const seq = base + 1;
    page.noted = new Set();
    page.head = false;
    if (noted === "all") {
      const peers = visibility.peersOf(self);
      this.#align(id, peers);
      page.peers = peers.length;
      return { kind: "whole", seq, peers };
    }
    const set: Device[] = [];
    const removed: string[] = [];
    for (const other of noted) {
      const device = devices.get(other);
      if (device !== undefined && this.#peers.has(id, other)) set.push(device);
      else removed.push(other);
    }
    page.peers = Math.max(page.peers + set.length - removed.length, 0);
    return { kind: "delta", base, seq, set, removed, head };
  }

  /** After a change of everything nobody is told singly. */
  #align(id: string, peers: readonly Device[]): void {
    const now = new Set(peers.map((peer) => peer.id));
    for (const other of this.#peers.of(id)) if (!now.has(other)) this.#peers.remove(id, other);
    for (const other of now) this.#peers.add(id, other);
  }

  /** `about` is to be told to `id` again; `head`: and what is in its head, as the rules, may follow from that. */
  #note(id: string, about: string, head: boolean): void {
    const page = this.#pages.get(id);
    if (page === undefined || page.noted === "all") return;
    page.noted.add(about);
    page.head ||= head;
    if (page.noted.size > NOTED_MAX && page.noted.size > page.peers / 2) page.noted = "all";
  }
}

/** A device without what comes and goes. */
function standingText({ report, agentVersion: _, lastSeenAtMs: __, ...standing }: Device): string {
  return JSON.stringify([standing, report.routes]);
}
