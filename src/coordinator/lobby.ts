import { Places } from "../kit/places.js";

/**
 * Connections that have not shown who they are, at each of two stages: strangers, and those that have begun a handshake.
 * As many as TLS handshakes may be under way before them (sys/handshakes.ts): of a crowd that comes at one instant, and
 * answers as slowly at each stage, nobody is pushed out after all the work of its TLS.
 */
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
 * and push one another out, oldest first, and nobody else's (kit/places.ts). Those that look like devices keep their
 * places; where there is none for one more, that one is sent away.
 */
export class Lobby {
  readonly #strangers = new Places<() => void>(LOBBY_MAX);
  readonly #promising = new Set<() => void>();

  get size(): number {
    return this.#strangers.size + this.#promising.size;
  }

  /**
   * A connection from the address `remote`. `evict` ends it: it makes room for another, or is the one for which there
   * is none.
   */
  enter(remote: string, evict: () => void): Place {
    const [strangers, promising] = [this.#strangers, this.#promising];
    const leave = (): void => {
      strangers.leave(evict);
      promising.delete(evict);
    };
    strangers.enter(evict, remote)?.();
    return {
      promising: () => {
        if (!strangers.leave(evict)) return;
        if (promising.size < LOBBY_MAX) promising.add(evict);
        else evict();
      },
      leave,
    };
  }
}
