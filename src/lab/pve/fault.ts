import type { Pve } from "./pve.js";

/**
 * What goes wrong on purpose, for tests of clients. Given to `listenPve` in the same process; nothing on the network
 * reaches it.
 */
export type Fault = {
  /** Against verb and path below /api2/json: "POST /nodes/pve1/lxc". */
  readonly match: RegExp;
  /** The call it happens to, counted from 1 among those that match; every one when left out. */
  readonly nth?: number;
  readonly act: FaultAct;
};

/** `before` and `after` say whether the host has acted when it goes wrong. */
export type FaultAct =
  | { readonly kind: "reset" | "hang"; readonly when: "before" | "after" }
  | { readonly kind: "answer"; readonly status: number; readonly reason: string; readonly when: "before" | "after" }
  /** Somebody else does something just before: takes the number, locks the container. Then the call goes on. */
  | { readonly kind: "meanwhile"; readonly run: (pve: Pve) => void };

export class Faults {
  readonly #faults: readonly Fault[];
  readonly #counts = new Map<Fault, number>();
  /** Every call that arrived, in order. */
  readonly seen: string[] = [];

  constructor(...faults: readonly Fault[]) {
    this.#faults = faults;
  }

  /** What happens to this call, counting it. */
  next(call: string): FaultAct | undefined {
    this.seen.push(call);
    const matching = this.#faults.filter(({ match }) => match.test(call));
    for (const fault of matching) this.#counts.set(fault, (this.#counts.get(fault) ?? 0) + 1);
    return matching.find((fault) => fault.nth === undefined || fault.nth === this.#counts.get(fault))?.act;
  }
}
