/** Connections that have not shown who they are. At this many, the one that has waited longest makes room. */
export const LOBBY_MAX = 128;

/**
 * Bounds what strangers can hold. A device needs a round trip or two in here and leaves; a flood's connections stay
 * and push one another out, oldest first.
 */
export class Lobby {
  readonly #waiting = new Set<() => void>();

  get size(): number {
    return this.#waiting.size;
  }

  /** `evict` ends the connection; call the returned function when it has left by itself. */
  enter(evict: () => void): () => void {
    const oldest = this.#waiting.size >= LOBBY_MAX ? this.#waiting.values().next().value : undefined;
    if (oldest !== undefined) {
      this.#waiting.delete(oldest);
      oldest();
    }
    this.#waiting.add(evict);
    return () => {
      this.#waiting.delete(evict);
    };
  }
}
