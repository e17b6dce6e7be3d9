import { type Cidr, cidrAddress, cidrContains, cidrLength, familyOf } from "../kit/ip.js";
import type { NftTable } from "./nfttable.js";

/**
 * While everything goes through an exit: a conversation that somebody else began, past the tunnel, is answered the way
 * it came, such as a neighbour's SSH. What this machine began never is, not even before the exit was used: a TCP
 * connection is told by its first packet, an echo by its type; a UDP datagram does not tell, and only a neighbour's is
 * taken for a beginning.
 */
export type Inbound = {
  readonly device: string;
  /** The mark of what keeps out of the tunnel. */
  readonly fwmark: number;
  /** The networks this machine is in. */
  readonly near: readonly Cidr[];
};

export const INBOUND_TABLE = "exitnode_inbound";
/** Of connection tracking: this conversation began outside of the tunnel. */
export const INBOUND_MARK = "0x450002";
/** Networks of this machine that count, the first ones: a list of hundreds of containers' is not worth their look-up. */
const NEAR_MAX = 32;

export function inboundTable({ device, fwmark, near }: Inbound): NftTable {
  const begun = `ct mark set ${INBOUND_MARK}`;
  const answer = `ct direction reply ct mark ${INBOUND_MARK} meta mark set 0x${fwmark.toString(16)}`;
  const networks = outermost(near).slice(0, NEAR_MAX);
  const neighbours = (family: 4 | 6): string[] => {
    const list = networks.filter((network) => familyOf(network) === family);
    const source = `${family === 4 ? "ip" : "ip6"} saddr { ${list.join(", ")} }`;
    return list.length === 0 ? [] : [`${source} meta l4proto 17 ct state new ${begun}`];
  };
  return {
    name: INBOUND_TABLE,
    chains: [
      {
        name: "begun",
        // Before a forwarded port's address is another one.
        hook: "filter hook prerouting priority -150",
        rules: [
          // What comes back from a container, for somebody outside.
          answer,
          `iifname { "lo", "${device}" } accept`,
          "fib daddr type != local accept",
          `tcp flags & (fin | syn | rst | ack) == syn ${begun}`,
          `icmp type echo-request ${begun}`,
          `icmpv6 type echo-request ${begun}`,
          ...neighbours(4),
          ...neighbours(6),
        ],
      },
      {
        name: "answered",
        hook: "route hook output priority -150",
        rules: [answer],
      },
    ],
  };
}

/** Without those that lie in others: nftables refuses ranges that overlap. */
function outermost(networks: readonly Cidr[]): Cidr[] {
  const holds = (outer: Cidr, inner: Cidr): boolean =>
    cidrLength(outer) < cidrLength(inner) && cidrContains(outer, cidrAddress(inner));
  return [...new Set(networks)].filter((one) => !networks.some((other) => holds(other, one))).sort();
}
