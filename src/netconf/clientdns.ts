import { familyOf, type Ip } from "../kit/ip.js";
import type { NftTable } from "./nfttable.js";

/** Where a machine's look-ups are answered: the agent's own resolver, on loopback. */
export type LocalResolver = {
  readonly port: number;
  /** The resolvers this machine is configured with: without an exit, only what is asked of them is answered here. */
  readonly asked: readonly Ip[];
};

/**
 * Look-ups are handed to the agent's resolver on their way out, whoever makes them and whatever the machine's files
 * say. While an exit is used (`everything`) that is every one, and what would leave beside the tunnel is dropped.
 */
export type DnsRedirect = {
  readonly device: string;
  readonly uid: number;
  readonly everything: boolean;
  readonly resolver: LocalResolver;
};

export const DNS_TABLE = "exitnode_client";

export const dnsTable = (want: DnsRedirect): NftTable => ({
  name: DNS_TABLE,
  chains: [
    { name: "dns_redirect", hook: "nat hook output priority -100", rules: redirectRules(want) },
    { name: "dns_hold", hook: "filter hook postrouting priority 0", rules: holdRules(want) },
  ],
});

/** Protocols by number: names are looked up in /etc/protocols, which a small system does not have. */
const DNS = "meta l4proto { 6, 17 } th dport 53";
/** Names asked of everybody near: NetBIOS (RFC 1002 §4.2), multicast DNS (RFC 6762), LLMNR (RFC 4795). */
const NEIGHBOURS = "meta l4proto { 6, 17 } th dport { 137, 5353, 5355 }";

function redirectRules({ uid, everything, resolver }: DnsRedirect): string[] {
  const redirect = `${DNS} redirect to :${resolver.port}`;
  const asked = (family: 4 | 6): string[] => {
    const addresses = resolver.asked.filter((ip) => familyOf(ip) === family);
    return addresses.length === 0
      ? []
      : [`${family === 4 ? "ip" : "ip6"} daddr { ${addresses.join(", ")} } ${redirect}`];
  };
  // What goes to a stub resolver on loopback stays: that one asks upstream, and is redirected there.
  return ['oifname "lo" accept', `meta skuid ${uid} accept`, ...(everything ? [redirect] : [...asked(4), ...asked(6)])];
}

/** Left for these: look-ups passed on for others, and those of conversations older than the redirect. */
function holdRules({ device, uid, everything }: DnsRedirect): string[] {
  if (!everything) return [];
  return [
    `oifname { "lo", "${device}" } accept`,
    `meta skuid ${uid} accept`,
    "ct direction original meta l4proto { 6, 17 } ct original proto-dst 53 drop",
    `${DNS} drop`,
    `${NEIGHBOURS} drop`,
  ];
}
