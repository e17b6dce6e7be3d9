import type { Store, StoreView } from "./store/store.js";

/** Reads anew what changed: the rows of these ids, or everything. It may be called for a row that is as it was. */
export type Reader = (view: StoreView, ids: readonly string[] | "all") => Promise<void>;

/**
 * What other coordinators of the same store have changed, handed to whoever keeps a copy in memory, in the order in
 * which it happened. Over a store of one's own there is nothing to hear.
 */
export class ChangeFeed {
  readonly #store: Store;
  readonly #readers: { readonly kind: string; readonly read: Reader }[] = [];
  #seq: number;
  #last: Promise<void> = Promise.resolve();

  private constructor(store: Store, seq: number) {
    this.#store = store;
    this.#seq = seq;
  }

  /** From now on; what is read into memory afterwards is not missed. */
  static async open(store: Store): Promise<ChangeFeed> {
    return new ChangeFeed(store, store.shared ? await store.view.changes.last() : 0);
  }

  /** `kind` is a table's name. Readers of one kind run in the order in which they came. */
  on(kind: string, read: Reader): void {
    this.#readers.push({ kind, read });
  }

  /** Inside of a change, with its view: then nothing newer exists until the change ends. */
  catchUp(view: StoreView = this.#store.view): Promise<void> {
    if (!this.#store.shared) return Promise.resolve();
    const result = this.#last.then(() => this.#read(view));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #read(view: StoreView): Promise<void> {
    const rows = await view.changes.since(this.#seq);
    const [first, last] = [rows.at(0), rows.at(-1)];
    if (first === undefined || last === undefined) {
      // Nothing new, or a table that was emptied: a backup was restored under us.
      const newest = await view.changes.last();
      if (newest >= this.#seq) return;
      for (const { read } of this.#readers) await read(view, "all");
      this.#seq = newest;
      return;
    }
    const missed = first.seq > this.#seq + 1;
    for (const { kind, read } of this.#readers) {
      const ids = [...new Set(rows.filter((row) => row.kind === kind).map(({ id }) => id))];
      if (missed) await read(view, "all");
      else if (ids.length > 0) await read(view, ids);
    }
    this.#seq = last.seq;
  }
}
