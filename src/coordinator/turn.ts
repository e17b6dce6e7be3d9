import type { Millis } from "../kit/time.js";
import type { NetworkSettings } from "../wire/adminapi.js";
import type { Actor } from "./actor.js";
import type { Device } from "./device.js";
import type { StoreView } from "./store/store.js";

/** A change as it is made: what is written through `view`, and what memory is to hold once that lasts. */
export type Turn = {
  readonly view: StoreView;
  readonly now: Millis;
  /** Writes what differs from the device as it was, or adds it. */
  put(device: Device, joinKeyId?: string): Promise<void>;
  /** For what is written already. */
  hold(device: Device): void;
  remove(id: string): Promise<void>;
  /** An entry of the audit log. */
  note(by: Actor, action: string, target: string, details?: Readonly<Record<string, unknown>>): void;
  settings(): Promise<NetworkSettings>;
};
