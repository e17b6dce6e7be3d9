import { toHex, utf8 } from "../kit/bytes.js";
import { type Cidr, familyOf } from "../kit/ip.js";
import { sha256 } from "../kit/sha256.js";
import { INBOUND_MARK } from "./inbound.js";

/**
 * What a device lets in from the tunnel, as one nftables table.
 *
 * A flow is judged by its first packet's addresses and port, as connection tracking keeps them, whichever way the
 * packet at hand goes: answers to what this machine began pass, and a flow that a peer began is judged again with
 * every packet. So a rule that is taken away ends the flows it let in, in both directions and at once. Flushing
 * connection tracking would not: the next packet of ours would make the flow look like one that we began.
 */
export type Filter = { readonly device: string; readonly rules: readonly Rule[] };

export type Rule = {
  readonly from: readonly Cidr[];
  readonly to: readonly Cidr[];
  readonly protocol: "any" | "tcp" | "udp" | "icmp";
  /** First and last; undefined: all of them. */
  readonly ports?: readonly (readonly [number, number])[] | undefined;
  /** For what is passed on, and not for this machine itself. */
  readonly routed?: true | undefined;
};

export const FILTER_TABLE = "exitnode_filter";

/** Removes the table, whether it is there or not. */
export const REMOVE_FILTER = `table inet ${FILTER_TABLE}
delete table inet ${FILTER_TABLE}
`;

/** The whole table, replaced at once (the first two lines make sure there is one to delete). */
export function renderFilter(filter: Filter): string {
  const { device, rules } = filter;
  const sets = new Map<string, string>();
  const lines = { own: [] as string[], routed: [] as string[] };
  for (const rule of rules)
    for (const line of ruleLines(rule, sets)) {
      if (rule.routed === undefined) lines.own.push(line);
      lines.routed.push(line);
    }
  // What is answered beside the tunnel is still bound for it at this hook, which sees the way it had before its mark.
  return `${REMOVE_FILTER}table inet ${FILTER_TABLE} {
  comment "${filterMark(filter)}"
${[...sets].map(([elements, name]) => setText(name, elements)).join("")}  chain own {
${indented([ERRORS, ...lines.own, "drop"])}  }
  chain routed {
${indented([ERRORS, ...lines.routed, "drop"])}  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != "${device}" accept
    ct direction reply accept
    jump own
  }
  chain output {
    type filter hook output priority filter; policy accept;
    ct mark ${INBOUND_MARK} accept
    oifname "${device}" ct direction reply jump own
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${device}" oifname "${device}" drop
    iifname "${device}" ct direction reply accept
    iifname "${device}" jump routed
    oifname "${device}" ct direction reply jump routed
  }
}
`;
}

/** Whether what `nft list table` prints is the table wanted. */
export const isFilter = (listing: string, filter: Filter): boolean =>
  listing.includes(`comment "${filterMark(filter)}"`);

/** Stands in the table as its comment: an equal mark is an equal table. Raise the number with the rules' text. */
const filterMark = (filter: Filter): string =>
  `rules 2: ${toHex(sha256(utf8(JSON.stringify([filter.device, filter.rules])))).slice(0, 32)}`;

/** Of flows there are: without "packet too big" they would hang, and they carry nothing else. */
const ERRORS = "meta l4proto { 1, 58 } ct state related accept";
/** Protocols by number: names are looked up in /etc/protocols, which a small system does not have. */
const PROTOCOLS = { tcp: ["6"], udp: ["17"], icmp: ["1", "58"] } as const;

function ruleLines({ from, to, protocol, ports }: Rule, sets: Map<string, string>): string[] {
  const families = [4, 6] as const;
  return families.flatMap((family) => {
    const [sources, targets] = [from, to].map((list) => (list ?? []).filter((one) => familyOf(one) === family));
    if (sources === undefined || targets === undefined || sources.length === 0 || targets.length === 0) return [];
    const ip = family === 4 ? "ip" : "ip6";
    const words = [
      `ct original ${ip} saddr ${matching(sources, sets)}`,
      `ct original ${ip} daddr ${matching(targets, sets)}`,
      ...(protocol === "any" ? [] : [`meta l4proto ${oneOf(PROTOCOLS[protocol])}`]),
      ...(ports === undefined ? [] : [`ct original proto-dst ${oneOf(ports.map(rangeText))}`]),
      "accept",
    ];
    return [words.join(" ")];
  });
}

/** A set of its own for every list of prefixes: several rules share the one of the same people. */
function matching(prefixes: readonly Cidr[], sets: Map<string, string>): string {
  const sorted = [...new Set(prefixes)].sort();
  const [only] = sorted;
  if (sorted.length === 1 && only !== undefined) return only;
  const elements = sorted.join(", ");
  const name = sets.get(elements) ?? `s${sets.size}`;
  sets.set(elements, name);
  return `@${name}`;
}

function setText(name: string, elements: string): string {
  const type = elements.includes(":") ? "ipv6_addr" : "ipv4_addr";
  return `  set ${name} {
    type ${type}; flags interval; auto-merge
    elements = { ${elements} }
  }
`;
}

const oneOf = (words: readonly string[]): string => (words.length === 1 ? `${words[0]}` : `{ ${words.join(", ")} }`);
const rangeText = ([first, last]: readonly [number, number]): string =>
  first === last ? `${first}` : `${first}-${last}`;
const indented = (lines: readonly string[]): string => lines.map((line) => `    ${line}\n`).join("");
