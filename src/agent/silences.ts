import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { SILENCE_MS } from "../wireguard/constants.js";
import type { InterfaceState } from "../wireguard/interface.js";
import { TRANSPORT_BYTES_MIN } from "../wireguard/messages.js";

type Talk = { sent: number; received: number; heardAt: Millis | undefined; unansweredSince: Millis | undefined };

/**
 * Which peers leave unanswered what WireGuard sends them. A peer that lives answers a handshake at once, and anything
 * else by a keepalive at the latest (paper §6.5): a session is good for three minutes, this proves more in a quarter of
 * a minute.
 */
export class Silences {
  readonly #talks = new Map<Key, Talk>();

  /** What WireGuard says of its peers, asked every second or two. */
  observe({ peers }: InterfaceState, now: Millis): void {
    for (const { publicKey, sentBytes: sent, receivedBytes: received } of peers) {
      const talk = this.#talks.get(publicKey);
      // With fewer bytes than before the interface is another one.
      if (talk === undefined || sent < talk.sent || received < talk.received) {
        this.#talks.set(publicKey, { sent, received, heardAt: undefined, unansweredSince: undefined });
        continue;
      }
      if (received > talk.received) [talk.heardAt, talk.unansweredSince] = [now, undefined];
      // The shortest is a keepalive, which wants no answer.
      else if (sent - talk.sent > TRANSPORT_BYTES_MIN) talk.unansweredSince ??= now;
      [talk.sent, talk.received] = [sent, received];
    }
    if (this.#talks.size === peers.length) return;
    const kept = new Set(peers.map(({ publicKey }) => publicKey));
    for (const key of this.#talks.keys()) if (!kept.has(key)) this.#talks.delete(key);
  }

  /** Since the peer was last heard, as far as is known; undefined while nothing waits for its answer for too long. */
  of(peer: Key, now: Millis): Millis | undefined {
    const { heardAt, unansweredSince } = this.#talks.get(peer) ?? {};
    if (unansweredSince === undefined || now - unansweredSince < SILENCE_MS) return undefined;
    return now - (heardAt ?? unansweredSince);
  }
}
