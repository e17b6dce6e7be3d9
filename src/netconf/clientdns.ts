import { familyOf, type Ip } from "../kit/ip.js";

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

/** Stands in the table as its comment: an equal mark is an equal table. Raise the number with the rules' text. */
export function dnsMark({ device, uid, everything, resolver }: DnsRedirect): string {
  const whose = everything ? "all" : resolver.asked.join(",");
  return `rules 3: dns of ${whose} to port ${resolver.port}, beside ${device} only user ${uid}`;
}

/** The whole table, replaced at once (the first two lines make sure there is one to delete). */
export function renderDnsRedirect(want: DnsRedirect): string {
  const lines = (rules: readonly string[]): string => rules.map((rule) => `    ${rule}\n`).join("");
  return `table inet ${DNS_TABLE}
delete table inet ${DNS_TABLE}
table inet ${DNS_TABLE} {
  comment "${dnsMark(want)}"
  chain dns_redirect {
    type nat hook output priority -100; policy accept;
${lines(redirectRules(want))}  }
  chain dns_hold {
    type filter hook postrouting priority 0; policy accept;
${lines(holdRules(want))}  }
}
`;
}

export const dnsRuleCount = (want: DnsRedirect): number => redirectRules(want).length + holdRules(want).length;

/** Protocols by number: names are looked up in /etc/protocols, which a small system does not have. */
const DNS = "meta l4proto { 6, 17 } th dport 53";

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
    "meta l4proto { 6, 17 } ct original proto-dst 53 drop",
    `${DNS} drop`,
  ];
}

/** The mark and the number of rules in what \`nft list table\` prints. */
export function readDnsTable(listing: string): { mark: string; rules: number } {
  const lines = listing.split("\n").map((line) => line.trim());
  const rules = lines.filter((line) => line !== "" && !/^(table |chain |type |comment |\})/.test(line));
  return { mark: /^\s*comment "([^"]*)"$/m.exec(listing)?.[1] ?? "", rules: rules.length };
}
