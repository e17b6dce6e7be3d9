import { formatEndpoint } from "../kit/endpoint.js";
import type { Millis } from "../kit/time.js";
import { describeNat } from "../nat/natkind.js";
import { whyRelayed } from "../nat/path.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import type { InterfaceState, PeerState } from "../wireguard/interface.js";
import { type Choice, exitOf, offers } from "./desired.js";
import { PROVEN_WITHIN_MS } from "./endpoints.js";
import { isLoopback } from "./loopback.js";
import { tellsOfNat } from "./netcheck.js";
import type { Traversal } from "./traversal.js";

/** What the agent knows of its line to the coordinator. */
export type Line = {
  readonly connected: boolean;
  readonly url?: string | undefined;
  readonly reason?: string | undefined;
  readonly refusal?: string | undefined;
};

/** The agent's state as `status` shows it. */
export function describeStatus(
  config: AgentConfig,
  dataPlane: "kernel" | "userspace",
  version: string,
  line: Line,
  held: { readonly map: NetworkMap; readonly ageMs: Millis } | undefined,
  choice: Choice,
  state: InterfaceState | undefined,
  warnings: readonly string[],
  traversal: Traversal | undefined,
): AgentStatus {
  const peerStates = new Map((state?.peers ?? []).map((peer) => [peer.publicKey, peer]));
  return {
    version,
    name: held?.map.self.name ?? config.name,
    role: config.role,
    addresses: held?.map.self.addresses ?? [],
    dataPlane,
    interface: config.interface,
    listenPort: state?.listenPort ?? config.listenPort,
    ...(held === undefined ? {} : { mtu: traversal?.fitted(held.map).mtu ?? held.map.mtu }),
    ...(state?.unsent === undefined ? {} : { unsent: state.unsent }),
    ...ownerOf(held?.map.self),
    coordinator: {
      connected: line.connected,
      ...(line.url === undefined ? {} : { url: line.url }),
      ...(line.reason === undefined ? {} : { reason: line.reason }),
      ...(line.refusal === undefined ? {} : { refusal: line.refusal }),
      ...(held === undefined ? {} : { mapAgeMs: held.ageMs, mapSeq: held.map.seq }),
    },
    ...(held?.map.self.waiting === undefined ? {} : { waiting: held.map.self.waiting }),
    ...(held?.map.self.keyExpiresAtMs === undefined ? {} : { keyExpiresAtMs: held.map.self.keyExpiresAtMs }),
    ...describeExit(held?.map, choice, peerStates, traversal),
    peers: (held?.map.peers ?? []).map((peer) => {
      const seen = peerStates.get(peer.publicKey);
      return {
        name: peer.name,
        role: peer.role,
        ...(peer.app === undefined ? {} : { app: peer.app }),
        addresses: peer.addresses,
        ...ownerOf(peer),
        online: peer.online,
        ...describeWay(peer, seen, traversal),
        receivedBytes: seen?.receivedBytes ?? 0,
        sentBytes: seen?.sentBytes ?? 0,
        ...(seen?.lastHandshakeAgeMs === undefined ? {} : { lastHandshakeAgeMs: seen.lastHandshakeAgeMs }),
        ...describeSilence(peer, traversal),
      };
    }),
    ...describeHere(traversal),
    warnings: [...warnings, ...(traversal?.paths.warnings ?? []), ...(state?.warnings ?? [])],
  };
}

const ownerOf = ({ user, tags }: Pick<MapPeer, "user" | "tags"> = {}): Pick<MapPeer, "user" | "tags"> => ({
  ...(user === undefined ? {} : { user }),
  ...(tags === undefined ? {} : { tags }),
});

function describeHere(traversal: Traversal | undefined): Pick<AgentStatus, "nat" | "homeRelay"> {
  const { stun, relays } = traversal ?? {};
  const homeRelay = relays?.nameOf(relays.home);
  return {
    ...(stun === undefined || relays === undefined || !tellsOfNat(stun, relays.describe())
      ? {}
      : { nat: describeNat(stun) }),
    ...(homeRelay === undefined ? {} : { homeRelay }),
  };
}

export type Way = Pick<AgentStatus["peers"][number], "path" | "endpoint" | "roundTripMs" | "relay" | "why">;

/** How the peer is reached: as its path finder says or, where there is none, as WireGuard's handshakes prove. */
export function describeWay(peer: MapPeer, seen: PeerState | undefined, traversal: Traversal | undefined): Way {
  const found = traversal?.paths.of(peer.publicKey);
  const direct = seen?.endpoint !== undefined && !isLoopback(seen.endpoint.address) ? seen.endpoint : undefined;
  if (found === undefined || (found.route.kind === "none" && direct !== undefined))
    return {
      path: isProven(seen, traversal) ? "direct" : "searching",
      ...(direct === undefined ? {} : { endpoint: formatEndpoint(direct) }),
    };
  const { path } = found.finder;
  if (path.kind === "direct")
    return { path: "direct", endpoint: formatEndpoint(path.endpoint), roundTripMs: path.roundTripMs };
  const relay = found.route.kind === "none" ? undefined : traversal?.relays.nameOf(peer.homeRelay);
  return {
    path: path.kind,
    ...(relay === undefined ? {} : { relay }),
    ...(path.kind === "relayed" ? { why: whyRelayed(path.why) } : {}),
  };
}

function describeExit(
  map: NetworkMap | undefined,
  choice: Choice,
  states: ReadonlyMap<string, PeerState>,
  traversal: Traversal | undefined,
): Pick<AgentStatus, "exit"> {
  if (choice.exit === undefined) return {};
  const exit = map === undefined ? undefined : exitOf(map, choice);
  if (exit === undefined) return { exit: { name: choice.exit, ipv4: false, ipv6: false, state: "gone" } };
  const state = isProven(states.get(exit.publicKey), traversal) ? "active" : "waiting";
  return { exit: { name: exit.name, ipv4: offers(exit, 4), ipv6: offers(exit, 6), state } };
}

function describeSilence({ publicKey }: MapPeer, traversal: Traversal | undefined): { readonly silentMs?: Millis } {
  const silentMs = traversal?.silenceOf(publicKey);
  return silentMs === undefined ? {} : { silentMs };
}

/** A handshake of two minutes ago proves less than the silence since. */
const isProven = (peer: PeerState | undefined, traversal: Traversal | undefined): boolean =>
  peer?.lastHandshakeAgeMs !== undefined &&
  peer.lastHandshakeAgeMs < PROVEN_WITHIN_MS &&
  traversal?.silenceOf(peer.publicKey) === undefined;
