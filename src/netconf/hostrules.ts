import {
  bitsOf,
  type Cidr,
  cidrAddress,
  cidrLength,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  parseCidr,
} from "../kit/ip.js";
import type { LocalResolver } from "./clientdns.js";

/** The routing rules of a device: who looks up which table, in order. */
export type Rule =
  | { readonly preference: number; readonly of: Selector; readonly table: string; readonly withoutDefaults?: boolean }
  | { readonly preference: number; readonly of: Selector; readonly table: "unreachable" };

export type Selector =
  | { readonly kind: "all" }
  | { readonly kind: "mark"; readonly mark: number }
  | { readonly kind: "to"; readonly network: Cidr }
  | { readonly kind: "from"; readonly ip: Ip }
  | { readonly kind: "user"; readonly uid: number }
  | { readonly kind: "dns"; readonly protocol: number };

/** What decides which packets go where. */
export type WantRules = {
  /** An exit is in use. */
  readonly everything: boolean;
  /** The mark of datagrams that must not enter the tunnel; 0 is none. */
  readonly fwmark: number;
  /** The user whose sockets keep out of the tunnel while everything else goes through it. */
  readonly uid: number | undefined;
  /** Addresses reached directly, for where neither mark nor user can be had. */
  readonly escapes: readonly Ip[];
  /** Ours in the tunnel. */
  readonly addresses: readonly Ip[];
  /** Where look-ups are answered. */
  readonly resolver: LocalResolver | undefined;
  /** Networks that stay direct while an exit is used, such as the LAN this machine is on. */
  readonly direct?: readonly Cidr[];
};

/** Every rule in this block is ours. Tailscale has 5210 to 5270, netbird 105 and 110, wg-quick 32764 and below. */
export const PREFERENCES = { first: 5300, last: 5399 } as const;

/** RFC 790. */
export const UDP = 17;
export const TCP = 6;
const OURS = "5182";
const ALL: Selector = { kind: "all" };
const LINK_LOCAL = parseCidr("fe80::/10");

export function routingRules(want: WantRules, family: Family): Rule[] {
  const closed = (preference: number, of: Selector): Rule => ({ preference, of, table: "unreachable" });
  const main = (preference: number, of: Selector): Rule => ({ preference, of, table: "main" });
  const outside: Rule[] = [
    // The tunnel's own datagrams, even to a peer whose address is in a mesh range.
    ...(want.fwmark === 0 ? [] : [main(5310, { kind: "mark", mark: want.fwmark })]),
    ...want.escapes.filter((ip) => familyOf(ip) === family).map((ip) => main(5315, toNetwork(hostCidr(ip)))),
  ];
  // Mesh ranges, for every user: the agent's own sockets serve the mesh too.
  const mesh: Rule = { preference: 5330, of: ALL, table: OURS, withoutDefaults: true };
  if (!want.everything) return [...outside, mesh];
  const direct = [...(want.direct ?? []), LINK_LOCAL].filter((network) => familyOf(network) === family);
  return [
    ...outside,
    mesh,
    ...direct.map((network) => main(5335, toNetwork(network))),
    // A socket bound to our address in the tunnel is for the tunnel, also the agent's: its look-ups through the exit.
    ...want.addresses
      .filter((ip) => familyOf(ip) === family)
      .map((ip): Selector => ({ kind: "from", ip }))
      .flatMap((of): Rule[] => [{ preference: 5337, of, table: OURS }, closed(5338, of)]),
    // Never into the tunnel that it keeps up, also while the main table has no way out for a moment.
    ...(want.uid === undefined ? [] : [{ kind: "user", uid: want.uid } as const]).flatMap((of) => [
      main(5340, of),
      closed(5341, of),
    ]),
    { preference: 5350, of: ALL, table: OURS },
    // A stub resolver that ties its sockets to a device finds no route in our table. It may look at the main one:
    // nftables redirects the query before it leaves.
    ...(want.resolver === undefined ? [] : [UDP, TCP]).map((protocol) => main(5355, { kind: "dns", protocol })),
    // The kernel looks here for the way to a next hop when the main table's default route is set anew, as it is when
    // the machine changes networks: the gateway of the new one must be found. No default route is.
    { preference: 5358, of: ALL, table: "main", withoutDefaults: true },
    // With the device gone, its routes are: then nothing leaves, rather than everything beside the exit.
    { preference: 5360, of: ALL, table: "unreachable" },
  ];
}

/** What follows `ip rule add`; equal rules are equal texts. */
export function ruleArguments(rule: Rule): string {
  const of = selectorArguments(rule.of);
  const start = `pref ${rule.preference}${of === "" ? "" : ` ${of}`}`;
  if (rule.table === "unreachable") return `${start} unreachable`;
  return `${start} lookup ${rule.table}${"withoutDefaults" in rule && rule.withoutDefaults ? " suppress_prefixlength 0" : ""}`;
}

function selectorArguments(of: Selector): string {
  switch (of.kind) {
    case "all":
      return "";
    case "mark":
      return `fwmark 0x${of.mark.toString(16)}`;
    case "to":
      return `to ${cidrAddress(of.network)}/${cidrLength(of.network)}`;
    case "from":
      return `from ${of.ip}/${bitsOf(familyOf(of.ip))}`;
    case "user":
      return `uidrange ${of.uid}-${of.uid}`;
    case "dns":
      // By number: names are looked up in /etc/protocols, which a small system does not have.
      return `ipproto ${of.protocol} dport 53`;
  }
}

const toNetwork = (network: Cidr): Selector => ({ kind: "to", network });
