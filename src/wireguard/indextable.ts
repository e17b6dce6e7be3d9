// With every peer's four indices taken, one in 2^16 draws collides: a hundred in a row are no accident.
const ATTEMPTS_MAX = 100;

/**
 * The 32-bit indices by which messages find their handshake or session (paper §5.4.2: random, so that they tell
 * nothing). Bounded by its users: a peer holds at most four (three sessions and a handshake), PEERS_MAX of them 2^16.
 */
export class IndexTable<Entry> {
  readonly #entries = new Map<number, Entry>();
  readonly #random: (length: number) => Uint8Array;

  constructor(random: (length: number) => Uint8Array) {
    this.#random = random;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(index: number): Entry | undefined {
    return this.#entries.get(index);
  }

  /** A new index for the entry. */
  take(entry: Entry): number {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const bytes = this.#random(4);
      const index = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
      if (this.#entries.has(index)) continue;
      this.#entries.set(index, entry);
      return index;
    }
    throw new Error("chance gives out no free index");
  }

  /** The session takes over the index of its handshake. */
  replace(index: number, entry: Entry): void {
    this.#entries.set(index, entry);
  }

  free(index: number): void {
    this.#entries.delete(index);
  }
}
