import type { Gateway, NatKind, PortForward } from "./topology.js";

/**
 * A home or café router's nftables: NAT for IPv4, a stateful firewall for both families. One table, replaced whole.
 * IPv6 is forwarded untranslated; what nobody inside asked for is dropped, as ordinary home routers do (RFC 6092).
 */
export function renderFirewall(gateway: Gateway): string {
  const { lan, wan, lanPrefix } = gateway;
  return `table inet router
delete table inet router
table inet router {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
${rules(gateway.forwards.map((forward) => dnat(gateway, forward)))}${rules(filteringOf(gateway))}  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${wan}" ip saddr ${lanPrefix} ${mappingOf(gateway.nat)}
    oifname "${lan}" ip saddr ${lanPrefix} ct status dnat masquerade
  }
  chain input {
    type filter hook input priority filter; policy accept;
    ct state established,related accept
    iifname "${wan}" meta l4proto { icmp, ipv6-icmp } accept
    iifname "${wan}" drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
${rules(gateway.nat === "udp-blocked" ? [blockUdp(lan)] : [])}    ct state established,related accept
    ct state invalid drop
    iifname "${lan}" accept
    ct status dnat accept
  }
}
`;
}

// Also for those inside who dial the public address: a home router hairpins (RFC 4787 REQ-9), for which their source
// becomes the router's own in postrouting.
function dnat(gateway: Gateway, { protocol, port, to }: PortForward): string {
  return `ip daddr ${gateway.wanAddress} ${protocol} dport ${port} dnat ip to ${to}`;
}

/** RFC 4787 §4.1: a symmetric NAT takes another port for every destination; the others keep the inner port. */
function mappingOf(nat: NatKind): string {
  return nat === "symmetric" ? "masquerade fully-random" : "masquerade";
}

/**
 * RFC 4787 §5: Linux lets in only what was asked for. Endpoint-independent filtering, for the one device that is
 * behind the café's router, is everything sent to it on the port it used.
 */
function filteringOf(gateway: Gateway): string[] {
  if (gateway.nat !== "endpoint-independent") return [];
  return [
    `iifname "${gateway.wan}" ip daddr ${gateway.wanAddress} udp dport 1024-65535 dnat ip to ${firstHost(gateway)}`,
  ];
}

const firstHost = (gateway: Gateway): string => gateway.lanPrefix.replace(/\.0\/24$/, ".50");

const blockUdp = (lan: string): string => `iifname "${lan}" meta l4proto udp drop`;

function rules(all: readonly string[]): string {
  return all.map((rule) => `    ${rule}\n`).join("");
}
