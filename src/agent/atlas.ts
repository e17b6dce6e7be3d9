import * as z from "zod";
import { type Key, keyBytes } from "../kit/key.js";
import { type MapDelta, type MapPeer, mapHead, type NetworkMap, networkMap } from "../wire/map.js";
import { type MapSeal, mapDigest, mapSeal, peerHash, sealFits } from "../wire/seal.js";

/** A new map, and who was in the one before it and is no more. */
export type Turn = { readonly map: NetworkMap; readonly gone: readonly MapPeer[] };

type Entry = { readonly peer: MapPeer; readonly text: string };

const loose = z.record(z.string(), z.unknown());
const rawMap = z.looseObject({ peers: z.array(z.unknown()) });

/**
 * The network map as this device has it, made of a whole one and the deltas since. It also keeps the JSON text of every
 * part as it came, for that is what seals cover: a coordinator that says more than we understand can still be believed.
 */
export class Atlas {
  #map: NetworkMap | undefined;
  /** Without the number and the peers. */
  readonly #head = new Map<string, unknown>();
  readonly #entries = new Map<string, Entry>();
  #seal: MapSeal | undefined;

  get map(): NetworkMap | undefined {
    return this.#map;
  }

  get seq(): number | undefined {
    return this.#map?.seq;
  }

  /** `raw` is the JSON value that `map` was parsed from. */
  whole(map: NetworkMap, raw: unknown): Turn {
    const { seq: _, peers, seal: __, ...head } = rawMap.parse(raw);
    const before = this.#map?.peers ?? [];
    this.#head.clear();
    for (const [name, value] of Object.entries(head)) this.#head.set(name, value);
    this.#entries.clear();
    for (const [at, peer] of map.peers.entries()) this.#entries.set(peer.id, { peer, text: JSON.stringify(peers[at]) });
    this.#map = map;
    this.#seal = undefined;
    return { map, gone: before.filter(({ id }) => !this.#entries.has(id)) };
  }

  /** Undefined when it does not follow on what is here: then a whole map is needed. */
  delta(delta: MapDelta, raw: unknown): Turn | undefined {
    if (this.#map === undefined || delta.base !== this.#map.seq) return undefined;
    const { set, head } = loose.parse(raw);
    for (const [name, value] of Object.entries(loose.safeParse(head).data ?? {})) this.#head.set(name, value);
    for (const name of delta.cleared ?? []) this.#head.delete(name);
    const parsed = mapHead.safeParse(Object.fromEntries(this.#head));
    if (!parsed.success) return undefined;
    const gone: MapPeer[] = [];
    for (const id of delta.removed ?? []) {
      const entry = this.#entries.get(id);
      if (entry !== undefined) gone.push(entry.peer);
      this.#entries.delete(id);
    }
    const texts = z.array(z.unknown()).safeParse(set).data ?? [];
    for (const [at, peer] of (delta.set ?? []).entries())
      this.#entries.set(peer.id, { peer, text: JSON.stringify(texts[at]) });
    this.#map = { ...parsed.data, seq: delta.seq, peers: [...this.#entries.values()].map(({ peer }) => peer) };
    this.#seal = undefined;
    return { map: this.#map, gone };
  }

  /** Takes the coordinator's word for this very map; false when it is for another. */
  sealed(seal: MapSeal, sealKey: Key): boolean {
    if (seal.seq !== this.#map?.seq || !sealFits(keyBytes(sealKey), seal, this.#digest())) return false;
    this.#seal = seal;
    return true;
  }

  /** What the file holds: the map as it came, and its seal where it has one. Undefined while there is no map. */
  file(): string | undefined {
    if (this.#map === undefined) return undefined;
    const head = [...this.#head].map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`);
    const peers = [...this.#entries.values()].map(({ text }) => text);
    const seal = this.#seal === undefined ? [] : [`"seal":${JSON.stringify(this.#seal)}`];
    return `{${[`"seq":${this.#map.seq}`, ...head, `"peers":[${peers.join(",")}]`, ...seal].join(",")}}\n`;
  }

  /**
   * Reads a file's value back. With a key, only a map that it has sealed is taken; before the first seal of a
   * coordinator there is no key, and the file is all there is.
   */
  recall(value: unknown, sealKey: Key | undefined): "taken" | "absent" | "altered" {
    const map = networkMap.safeParse(value);
    if (!map.success) return value === undefined ? "absent" : "altered";
    const seal = mapSeal.safeParse(rawMap.parse(value).seal);
    this.whole(map.data, value);
    if (sealKey === undefined || (seal.success && this.sealed(seal.data, sealKey))) return "taken";
    this.#forget();
    return "altered";
  }

  #forget(): void {
    this.#map = undefined;
    this.#head.clear();
    this.#entries.clear();
  }

  #digest(): Uint8Array {
    const head = new Map([...this.#head].map(([name, value]) => [name, JSON.stringify(value)]));
    return mapDigest(
      head,
      [...this.#entries.values()].map(({ text }) => peerHash(text)),
    );
  }
}
