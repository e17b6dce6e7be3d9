import { type LockedKeys, type Proof, proofOf, proofsOf } from "../wire/lock.js";
import type { MapPeer } from "../wire/map.js";

type Proven = { readonly lock: string; readonly peer: MapPeer; readonly proof: Proof };

/** Verified where they are asked for: 8 ms. More than these are verified in other threads beforehand. */
export const PROOFS_AT_ONCE_MAX = 32;
/** Handed to the other threads together: what they have to do meanwhile waits as long as these take. */
const SLICE = 64;

/**
 * What is proven of the peers of the newest map, whoever is trusted: a list of trusted devices that changes costs
 * nothing, nor does a map that says the same of a peer as the one before.
 */
export class Proofs {
  #known = new Map<string, Proven>();
  #proving: Promise<void> | undefined;

  /** Undefined: `of` has little or nothing left to do. Else it is to be asked again afterwards. */
  prepare(lock: string, peers: readonly MapPeer[]): Promise<void> | undefined {
    if (this.#proving !== undefined) return this.#proving;
    const unknown = peers.filter((peer) => peer.lock !== undefined && this.#find(lock, peer) === undefined);
    if (unknown.length <= PROOFS_AT_ONCE_MAX) return undefined;
    this.#proving = this.#prove(lock, unknown).finally(() => {
      this.#proving = undefined;
    });
    return this.#proving;
  }

  /** In the order of the peers; of nobody else anything is remembered. */
  of(lock: string, peers: readonly MapPeer[]): Proof[] {
    const known = new Map<string, Proven>();
    const proofs = peers.map((peer) => {
      const proof = this.#find(lock, peer) ?? proofOf(lock, peer);
      known.set(peer.id, { lock, peer, proof });
      return proof;
    });
    this.#known = known;
    return proofs;
  }

  async #prove(lock: string, peers: readonly MapPeer[]): Promise<void> {
    for (let at = 0; at < peers.length; at += SLICE) {
      const slice = peers.slice(at, at + SLICE);
      const proofs = await proofsOf(lock, slice);
      for (const [i, peer] of slice.entries())
        this.#known.set(peer.id, { lock, peer, proof: proofs[i] ?? { speaks: false } });
    }
  }

  #find(lock: string, peer: MapPeer): Proof | undefined {
    const known = this.#known.get(peer.id);
    return known?.lock === lock && isSame(known.peer, peer) ? known.proof : undefined;
  }
}

/** Maps repeat themselves: most often it is the very same value. */
function isSame(left: LockedKeys, right: LockedKeys): boolean {
  if (left === right) return true;
  const [a, b] = [left.lock, right.lock];
  const isSameLock = a === b || (a?.key === b?.key && a?.statement === b?.statement && a?.signature === b?.signature);
  return isSameLock && left.publicKey === right.publicKey && left.discoveryKey === right.discoveryKey;
}
