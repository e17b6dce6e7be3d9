import type { Millis } from "../kit/time.js";
import { type Device, isActive } from "./device.js";

export type VisibilityParts = {
  /** The registry's, live. */
  readonly devices: ReadonlyMap<string, Device>;
  readonly wall: () => Millis;
};

/** Who may know of whom: what a device's map holds, and whom a change of a device concerns. */
export class Visibility {
  readonly #parts: VisibilityParts;

  constructor(parts: VisibilityParts) {
    this.#parts = parts;
  }

  /** The same both ways. */
  mayKnow(device: Device, other: Device): boolean {
    const now = this.#parts.wall();
    return device.id !== other.id && isActive(device, now) && isActive(other, now);
  }

  peersOf(device: Device): Device[] {
    return [...this.#parts.devices.values()].filter((other) => this.mayKnow(device, other));
  }
}
