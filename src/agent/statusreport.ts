import { formatEndpoint } from "../kit/endpoint.js";
import type { Millis } from "../kit/time.js";
import type { AgentConfig } from "../wire/agentconfig.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import type { NetworkMap } from "../wire/map.js";
import type { InterfaceState, PeerState } from "../wireguard/interface.js";
import { type Choice, exitOf, offers } from "./desired.js";
import { PROVEN_WITHIN_MS } from "./endpoints.js";

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
    coordinator: {
      connected: line.connected,
      ...(line.url === undefined ? {} : { url: line.url }),
      ...(line.reason === undefined ? {} : { reason: line.reason }),
      ...(line.refusal === undefined ? {} : { refusal: line.refusal }),
      ...(held === undefined ? {} : { mapAgeMs: held.ageMs, mapSeq: held.map.seq }),
    },
    ...describeExit(held?.map, choice, peerStates),
    peers: (held?.map.peers ?? []).map((peer) => {
      const seen = peerStates.get(peer.publicKey);
      return {
        name: peer.name,
        role: peer.role,
        addresses: peer.addresses,
        online: peer.online,
        path: isProven(seen) ? ("direct" as const) : ("searching" as const),
        receivedBytes: seen?.receivedBytes ?? 0,
        sentBytes: seen?.sentBytes ?? 0,
        ...(seen?.endpoint === undefined ? {} : { endpoint: formatEndpoint(seen.endpoint) }),
        ...(seen?.lastHandshakeAgeMs === undefined ? {} : { lastHandshakeAgeMs: seen.lastHandshakeAgeMs }),
      };
    }),
    warnings: [...warnings, ...(state?.warnings ?? [])],
  };
}

function describeExit(
  map: NetworkMap | undefined,
  choice: Choice,
  states: ReadonlyMap<string, PeerState>,
): Pick<AgentStatus, "exit"> {
  if (choice.exit === undefined) return {};
  const exit = map === undefined ? undefined : exitOf(map, choice);
  if (exit === undefined) return { exit: { name: choice.exit, ipv4: false, ipv6: false, state: "gone" } };
  const state = isProven(states.get(exit.publicKey)) ? "active" : "waiting";
  return { exit: { name: exit.name, ipv4: offers(exit, 4), ipv6: offers(exit, 6), state } };
}

const isProven = (peer: PeerState | undefined): boolean =>
  peer?.lastHandshakeAgeMs !== undefined && peer.lastHandshakeAgeMs < PROVEN_WITHIN_MS;
