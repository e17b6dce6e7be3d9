import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import type { Millis } from "../kit/time.js";
import type { Probe } from "../wire/probe.js";

/** How two peers reach each other now, what a Pathfinder wants done about it, and both in words. */
export type Path =
  /** Not yet known. Traffic goes through the relay meanwhile, when there is one. */
  | { readonly kind: "searching"; readonly since: Millis }
  | { readonly kind: "relayed"; readonly since: Millis; readonly why: Obstacle }
  | {
      readonly kind: "direct";
      readonly since: Millis;
      readonly endpoint: Endpoint;
      readonly roundTripMs: Millis;
      /** The largest IP packet that passes; undefined while it is measured. */
      readonly mtu: number | undefined;
    };

/** What stands in the way of a direct path. */
export type Obstacle =
  | { readonly kind: "udp-blocked-here" }
  | { readonly kind: "udp-blocked-there" }
  | { readonly kind: "no-common-family" }
  | { readonly kind: "no-endpoints" }
  | { readonly kind: "both-hard" }
  | { readonly kind: "no-answer"; readonly from: readonly Endpoint[] };

/** Where WireGuard's datagrams for the peer go. `socket`: a birthday socket; undefined is WireGuard's own port. */
export type Route =
  | { readonly kind: "none" }
  | { readonly kind: "relay" }
  | { readonly kind: "direct"; readonly endpoint: Endpoint; readonly socket: number | undefined }
  /** The endpoint is not proven at this moment: every datagram goes both ways, WireGuard drops the second. */
  | { readonly kind: "both"; readonly endpoint: Endpoint; readonly socket: number | undefined };

export type PathEffect =
  /** `whole`: it must not be fragmented on the way, it measures. */
  | {
      readonly kind: "probe";
      readonly to: Endpoint;
      readonly socket: number | undefined;
      readonly probe: Probe;
      readonly whole: boolean;
    }
  /** To the peer through the relay or, without one, through the coordinator. */
  | { readonly kind: "relay"; readonly probe: Probe }
  | { readonly kind: "use"; readonly route: Route }
  /** Open `count` more UDP sockets, numbered from `first`; what they receive comes in with their number. */
  | { readonly kind: "open-sockets"; readonly first: number; readonly count: number }
  /** Close all sockets but these. */
  | { readonly kind: "keep-sockets"; readonly sockets: readonly number[] };

/** The reason for the relay, and what a person could do about it. */
export function whyRelayed(why: Obstacle): { readonly words: string; readonly help: string } {
  switch (why.kind) {
    case "udp-blocked-here":
      return {
        words: "UDP is blocked here",
        help: "use another network, or allow outgoing UDP in this one's firewall",
      };
    case "udp-blocked-there":
      return { words: "UDP is blocked at the peer", help: "allow outgoing UDP in the peer's firewall" };
    case "no-common-family":
      return {
        words: "one side has IPv4 only, the other IPv6 only",
        help: "turn on IPv6 at the router of the side that lacks it",
      };
    case "no-endpoints":
      return {
        words: "the peer has told no endpoint",
        help: "check that the peer is online and reaches a STUN server",
      };
    case "both-hard":
      return {
        words: "both NATs change the port per destination",
        help: "forward the WireGuard port on one side's router, or turn on UPnP, NAT-PMP or PCP there",
      };
    case "no-answer": {
      const shown = why.from.slice(0, 3).map(formatEndpoint).join(", ");
      const more = why.from.length > 3 ? ` and ${why.from.length - 3} more` : "";
      return {
        words: `no answer from ${shown}${more}`,
        help: "a firewall drops UDP on one side: allow it, or forward the WireGuard port on one side's router",
      };
    }
  }
}

export function sameRoute(left: Route, right: Route): boolean {
  if (left.kind === "direct" || left.kind === "both") {
    if (left.kind !== right.kind || left.socket !== right.socket) return false;
    return formatEndpoint(left.endpoint) === formatEndpoint(right.endpoint);
  }
  return left.kind === right.kind;
}
