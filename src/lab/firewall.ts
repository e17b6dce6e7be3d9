import { EXIT, type Gateway, type NatKind, type PortForward } from "./internet.js";

/**
 * A router's nftables: NAT for IPv4, a stateful firewall for both families. One table, replaced whole.
 * IPv6 is forwarded untranslated; what nobody inside asked for is dropped, as ordinary home routers do (RFC 6092).
 */
export function renderFirewall(gateway: Gateway): string {
  const { lan, wan, lanPrefix, nat } = gateway;
  return `table inet router
delete table inet router
table inet router {
${nat === "endpoint-independent" ? INSIDE : ""}  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
${rules(gateway.forwards.map((forward) => dnat(gateway, forward)))}${rules(unaskedOf(gateway))}  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${wan}" ip saddr ${lanPrefix} ${mappingOf(gateway)}
    oifname "${lan}" ip saddr ${lanPrefix} ct status dnat masquerade
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    iifname "${wan}" meta l4proto { icmp, ipv6-icmp } accept
    iifname "${wan}" drop
  }
${gateway.muteTooBig === true ? MUTE_TOO_BIG : ""}  chain forward {
    type filter hook forward priority filter; policy drop;
${rules(forwardingOf(gateway))}    ct state established,related accept
    ct state invalid drop
    iifname "${lan}" accept
    ct status dnat accept
${rules(nat === "open" ? [`iifname "${wan}" accept`] : [])}  }
}
`;
}

/** RFC 4787 REQ-5: a UDP mapping lives two minutes at least. The map knows who inside has which port. */
const INSIDE = `  map inside {
    type inet_service : ipv4_addr
    flags dynamic,timeout
    timeout 2m
  }
`;

/** The answer that path MTU discovery waits for, of either family (RFC 1191, RFC 8201). */
export const MUTE_TOO_BIG = `  chain mute-too-big {
    type filter hook output priority filter; policy accept;
    icmp type destination-unreachable icmp code frag-needed drop
    icmpv6 type packet-too-big drop
  }
`;

// Also for those inside who dial the public address: a home router hairpins (RFC 4787 REQ-9), for which their source
// becomes the router's own in postrouting.
function dnat(gateway: Gateway, { protocol, port, to }: PortForward): string {
  return `ip daddr ${publicOf(gateway)} ${protocol} dport ${port} dnat ip to ${to}`;
}

function publicOf({ wanAddress, publicAddresses = [wanAddress] }: Gateway): string {
  return publicAddresses.length === 1 ? String(publicAddresses[0]) : `{ ${publicAddresses.join(", ")} }`;
}

/** RFC 4787 §4.1: a symmetric NAT takes another port for every destination; the others keep the inner port. */
function mappingOf({ nat, wanAddress, publicAddresses }: Gateway): string {
  const random = nat === "symmetric" ? " fully-random" : "";
  return publicAddresses === undefined ? `masquerade${random}` : `snat ip to ${wanAddress}${random}`;
}

/** RFC 4787 §5: Linux lets in only what was asked for. What else a router hands inside, and to whom. */
function unaskedOf(gateway: Gateway): string[] {
  const fromOutside = `iifname "${gateway.wan}" ip daddr ${publicOf(gateway)}`;
  // Ports are kept by the mapping, so a port outside is the same port inside.
  if (gateway.nat === "endpoint-independent") return [`${fromOutside} dnat ip to udp dport map @inside`];
  if (gateway.nat === "open") return [`${fromOutside} dnat ip to ${firstHost(gateway)}`];
  return [];
}

/** Ahead of all else in the forward chain. */
function forwardingOf({ nat, lan, wan }: Gateway): string[] {
  const before: Partial<Record<NatKind, string>> = {
    "udp-blocked": "meta l4proto udp drop",
    // Every datagram renews the mapping, as RFC 4787 REQ-6 wants of those that go out.
    "endpoint-independent": `iifname "${lan}" oifname "${wan}" update @inside { udp sport : ip saddr }`,
  };
  return [before[nat] ?? []].flat();
}

/** The laptop in the café, the exit node at home. */
const firstHost = ({ lanPrefix }: Gateway): string => lanPrefix.replace(/\.0\/24$/, EXIT.slice(EXIT.lastIndexOf(".")));

export function rules(all: readonly string[]): string {
  return all.map((rule) => `    ${rule}\n`).join("");
}
