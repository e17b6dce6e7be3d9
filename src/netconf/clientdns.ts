import { familyOf, type Ip } from "../kit/ip.js";

/** While an exit is used, DNS goes through it: a query asked elsewhere would tell the café what is looked up. */
export type DnsRedirect = { readonly device: string; readonly resolver: Ip; readonly uid: number | undefined };

export const DNS_TABLE = "exitnode_client";

/** Stands in the table as its comment: an equal mark is an equal table. Raise the number with the rules' text. */
export function dnsMark({ device, resolver, uid }: DnsRedirect): string {
  return `rules 2: dns to ${resolver} by ${device}, except user ${uid ?? "none"}`;
}

/** The whole table, replaced at once (the first two lines make sure there is one to delete). */
export function renderDnsRedirect(want: DnsRedirect): string {
  const { device, resolver, uid } = want;
  const ip = familyOf(resolver) === 4 ? "ip" : "ip6";
  const [same, other] = ip === "ip" ? ["ipv4", "ipv6"] : ["ipv6", "ipv4"];
  const exempt = uid === undefined ? "" : `    meta skuid ${uid} accept\n`;
  // Protocols by number: names are looked up in /etc/protocols, which a small system does not have.
  // What goes to a stub resolver on loopback stays: that one asks upstream, and is redirected there.
  // A query's source was chosen for where it first went, so it is masqueraded.
  // The other family is refused at once, and resolvers fall back instead of waiting.
  return `table inet ${DNS_TABLE}
delete table inet ${DNS_TABLE}
table inet ${DNS_TABLE} {
  comment "${dnsMark(want)}"
  chain dns_redirect {
    type nat hook output priority -100; policy accept;
    oifname "lo" accept
${exempt}    meta nfproto ${same} meta l4proto { 6, 17 } th dport 53 dnat ${ip} to ${resolver}
  }
  chain dns_source {
    type nat hook postrouting priority 100; policy accept;
    oifname "${device}" ct status dnat meta l4proto { 6, 17 } th dport 53 masquerade
  }
  chain dns_refuse {
    type filter hook output priority 0; policy accept;
    meta nfproto != ${other} accept
    oifname "lo" accept
${exempt}    udp dport 53 reject with icmpx port-unreachable
    tcp dport 53 reject with tcp reset
  }
}
`;
}

export const dnsRuleCount = ({ uid }: DnsRedirect): number => (uid === undefined ? 7 : 9);

/** The mark and the number of rules in what \`nft list table\` prints. */
export function readDnsTable(listing: string): { mark: string; rules: number } {
  const lines = listing.split("\n").map((line) => line.trim());
  const rules = lines.filter((line) => line !== "" && !/^(table |chain |type |comment |\})/.test(line));
  return { mark: /^\s*comment "([^"]*)"$/m.exec(listing)?.[1] ?? "", rules: rules.length };
}
