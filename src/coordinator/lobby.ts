/** Connections that have not shown who they are. At this many, one that has waited makes room. */
export const LOBBY_MAX = 512;

/** A connection's place in the lobby. */
export type Place = {
  /** It has begun a handshake that only a holder of the coordinator's key can begin: a device, most likely. */
  promising(): void;
  /** It has left by itself. */
  leave(): void;
};

/**
 * Bounds what strangers can hold. A device needs a round trip or two in here and leaves; a flood's connections stay
 * and push one another out, oldest first. Those that look like devices keep their places: when ten thousand come back
 * at once and each pushed out another, after all the work of its TLS, nobody would ever get in.
 */
export class Lobby {
  readonly #strangers = new Set<() => void>();
  readonly #promising = new Set<() => void>();

  get size(): number {
    return this.#strangers.size + this.#promising.size;
  }

  /** `evict` ends the connection: another's, or its own where there is no other to make room. */
  enter(evict: () => void): Place {
    this.#strangers.add(evict);
    const oldest = this.size > LOBBY_MAX ? this.#strangers.values().next().value : undefined;
    if (oldest !== undefined) {
      this.#strangers.delete(oldest);
      oldest();
    }
    return {
      promising: () => {
        if (this.#strangers.delete(evict)) this.#promising.add(evict);
      },
      leave: () => {
        this.#strangers.delete(evict);
        this.#promising.delete(evict);
      },
    };
  }
}
