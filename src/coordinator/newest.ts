/** Of several reads under way at once the one that began last counts: what an earlier one brings late is out of date. */
export class Newest {
  #begun = 0;
  #taken = 0;

  /** Undefined: a later one was quicker. */
  async read<T>(read: () => Promise<T>): Promise<T | undefined> {
    const number = ++this.#begun;
    const value = await read();
    if (number < this.#taken) return undefined;
    this.#taken = number;
    return value;
  }
}
