/** Which devices are peers, both ways the same: a bit for every two, 1.25 KB a device when there are 10,000. */
export class PeerPairs {
  readonly #slots = new Map<string, number>();
  readonly #ids: (string | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #rows: Uint8Array[] = [];

  /** Ids of the device's peers. */
  of(id: string): string[] {
    const found: string[] = [];
    const row = this.#rows[this.#slots.get(id) ?? -1];
    row?.forEach((byte, at) => {
      if (byte === 0) return;
      for (let bit = 0; bit < 8; bit++) {
        const other = (byte >> bit) & 1 ? this.#ids[at * 8 + bit] : undefined;
        if (other !== undefined) found.push(other);
      }
    });
    return found;
  }

  has(id: string, other: string): boolean {
    const [a, b] = [this.#slots.get(id), this.#slots.get(other)];
    if (a === undefined || b === undefined) return false;
    return (((this.#rows[a]?.[b >> 3] ?? 0) >> (b & 7)) & 1) === 1;
  }

  add(id: string, other: string): void {
    const [a, b] = [this.#slotOf(id), this.#slotOf(other)];
    this.#write(a, b, true);
    this.#write(b, a, true);
  }

  remove(id: string, other: string): void {
    const [a, b] = [this.#slots.get(id), this.#slots.get(other)];
    if (a === undefined || b === undefined) return;
    this.#write(a, b, false);
    this.#write(b, a, false);
  }

  /** The device is gone for good, and its place is free for another. */
  forget(id: string): void {
    const slot = this.#slots.get(id);
    if (slot === undefined) return;
    for (const other of this.of(id)) this.remove(id, other);
    this.#slots.delete(id);
    this.#ids[slot] = undefined;
    this.#free.push(slot);
  }

  #slotOf(id: string): number {
    const known = this.#slots.get(id);
    if (known !== undefined) return known;
    const slot = this.#free.pop() ?? this.#ids.length;
    this.#slots.set(id, slot);
    this.#ids[slot] = id;
    this.#rows[slot] ??= new Uint8Array(0);
    return slot;
  }

  /** Rows grow with the slots they have to name, in steps: most devices know few. */
  #write(slot: number, other: number, value: boolean): void {
    let row = this.#rows[slot] ?? new Uint8Array(0);
    const at = other >> 3;
    if (at >= row.length) {
      const longer = new Uint8Array(Math.max(16, Math.ceil((at + 1) * 1.25)));
      longer.set(row);
      row = longer;
      this.#rows[slot] = row;
    }
    const bit = 1 << (other & 7);
    row[at] = value ? (row[at] ?? 0) | bit : (row[at] ?? 0) & ~bit;
  }
}
