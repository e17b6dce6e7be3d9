import { neighbourhood } from "./neighbourhood.js";

/**
 * Places for those who have not shown who they are, each held for a neighbourhood. While there is room, one may hold
 * them all: a carrier's NAT has thousands behind one address. At one more, whoever holds the most gives up its oldest,
 * so that however many come from one address, who comes from another gets in, and stays.
 */
export class Places<T> implements Iterable<T> {
  readonly #max: number;
  readonly #holders = new Map<string, Set<T>>();
  /** The oldest first. */
  readonly #holderOf = new Map<T, string>();

  constructor(max: number) {
    this.#max = max;
  }

  get size(): number {
    return this.#holderOf.size;
  }

  /** The oldest first. */
  [Symbol.iterator](): Iterator<T> {
    return this.#holderOf.keys();
  }

  /** How many a neighbourhood holds. */
  heldBy(holder: string): number {
    return this.#holders.get(holder)?.size ?? 0;
  }

  /** `remote` is the other end's address. Returns who has lost its place for it; it may be this very one. */
  enter(one: T, remote: string): T | undefined {
    const holder = neighbourhood(remote);
    const held = this.#holders.get(holder);
    if (held === undefined) this.#holders.set(holder, new Set([one]));
    else held.add(one);
    this.#holderOf.set(one, holder);
    return this.size > this.#max ? this.evict() : undefined;
  }

  /** False: it had none. */
  leave(one: T): boolean {
    const holder = this.#holderOf.get(one);
    if (holder === undefined) return false;
    this.#holderOf.delete(one);
    const held = this.#holders.get(holder);
    held?.delete(one);
    if (held?.size === 0) this.#holders.delete(holder);
    return true;
  }

  /** Takes its place from the oldest of the neighbourhood that holds the most. */
  evict(): T | undefined {
    let most: ReadonlySet<T> = new Set();
    for (const held of this.#holders.values()) if (held.size > most.size) most = held;
    return this.#leaveFirst(most);
  }

  /** The oldest of the neighbourhood whose turn it is, of those that may; it leaves. */
  next(may: (holder: string) => boolean): T | undefined {
    for (const [holder, held] of this.#holders) {
      if (!may(holder)) continue;
      this.#holders.delete(holder);
      this.#holders.set(holder, held);
      return this.#leaveFirst(held);
    }
    return undefined;
  }

  #leaveFirst(held: ReadonlySet<T>): T | undefined {
    for (const one of held) {
      this.leave(one);
      return one;
    }
    return undefined;
  }
}
