import { assert } from "../kit/assert.js";
import { STAGED_PACKETS_MAX } from "./constants.js";

/** Packets that wait for a session, oldest first. At the bound the oldest is dropped: a late packet is worth less. */
export class Staged {
  #packets: Uint8Array[] = [];

  get length(): number {
    return this.#packets.length;
  }

  /** Keeps a copy; false when another was dropped for it. */
  push(packet: Uint8Array): boolean {
    this.#packets.push(packet.slice());
    if (this.#packets.length <= STAGED_PACKETS_MAX) return true;
    this.#packets.shift();
    return false;
  }

  shift(): Uint8Array {
    const packet = this.#packets.shift();
    assert(packet !== undefined, "there is a packet to take");
    return packet;
  }

  /** Drops all; returns how many. */
  clear(): number {
    const dropped = this.#packets.length;
    this.#packets = [];
    return dropped;
  }
}
