import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { MapPeer } from "../wire/map.js";

/** Peers that paths are looked after for at once: each has a socket and is probed. An exit node may know thousands. */
export const PATHS_MAX = 512;
/** New paths for peers that call. Who forges calls must not push others out faster. */
export const CALLERS_MAX = { perSecond: 32, burst: 256 } as const;

/** A peer that probes can be sealed for. */
export type Searchable = MapPeer & { readonly discoveryKey: Key };
export const isSearchable = (peer: MapPeer): peer is Searchable => peer.discoveryKey !== undefined;

/** Who of the map's peers has a path from the start: exit nodes, then those that had one, then the first. */
export function chosenPeers(peers: readonly Searchable[], hasPath: (publicKey: Key) => boolean): Searchable[] {
  if (peers.length <= PATHS_MAX) return [...peers];
  const rank = (peer: Searchable): number => (peer.role === "exit-node" ? 0 : hasPath(peer.publicKey) ? 1 : 2);
  return [...peers].sort((left, right) => rank(left) - rank(right)).slice(0, PATHS_MAX);
}

/** Whose path makes room for a peer that calls: the one that has been quiet for longest; undefined: all are in use. */
export function quietest<Path extends { readonly isActive: boolean; readonly quietFor: Millis }>(
  paths: Iterable<Path>,
): Path | undefined {
  let found: Path | undefined;
  for (const path of paths) if (!path.isActive && path.quietFor > (found?.quietFor ?? -1)) found = path;
  return found;
}
