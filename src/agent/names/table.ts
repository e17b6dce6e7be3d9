import { type Cidr, cidrContains, cidrLength, familyOf, type Ip, ipFromBytes } from "../../kit/ip.js";
import type { NetworkMap } from "../../wire/map.js";
import { CANARY_ANSWER, CANARY_DOMAIN } from "../../wire/names.js";
import { type OwnAnswer, RCODE } from "./message.js";

/** What the network map says about names, ready to be asked. */
export type NameTable = {
  /** Undefined where the network has no names. */
  readonly domain: string | undefined;
  /** By full name in lower case. */
  readonly hosts: ReadonlyMap<string, readonly Ip[]>;
  /** Names that others are below, and that have nothing themselves. */
  readonly branches: ReadonlySet<string>;
  /** Devices by address. */
  readonly pointers: ReadonlyMap<Ip, string>;
  readonly ranges: readonly Cidr[];
  readonly split: readonly { readonly domain: string; readonly resolvers: readonly Ip[] }[];
  /**
   * What the tunnel stands on, the coordinator and the relays, and who knows them. A stub resolver asks for the agent as
   * for everybody: through the tunnel, that question would wait for its own answer.
   */
  readonly ground: { readonly hosts: ReadonlySet<string>; readonly resolvers: readonly Ip[] };
};

export type NameQuestion = { readonly name: string; readonly type: string; readonly class: string };

export type Decision =
  | { readonly kind: "answer"; readonly answer: OwnAnswer }
  /** A look-up of somebody who tests where look-ups go. */
  | { readonly kind: "canary"; readonly token: string; readonly answer: OwnAnswer }
  /** `resolvers`: the domain's own; `direct`: beside the tunnel, whatever the rest does. */
  | { readonly kind: "forward"; readonly resolvers?: readonly Ip[] | undefined; readonly direct?: true };

/** `urls` are the coordinator's, `own` the resolvers of the network here. */
export function tableOf(map: NetworkMap, urls: readonly string[], own: readonly Ip[]): NameTable {
  const { names, self, peers, ranges, relays = [] } = map;
  const grounds = [...urls, ...relays.flatMap((relay) => [relay.url, ...(relay.urls ?? [])])];
  const ground = { hosts: new Set(grounds.map((url) => new URL(url).hostname)), resolvers: own };
  const hosts = new Map<string, readonly Ip[]>();
  const pointers = new Map<Ip, string>();
  const full = (name: string): string => (name.includes(".") || !names ? name : `${name}.${names.domain}`);
  if (names !== undefined) {
    for (const { name, addresses } of names.records) hosts.set(full(name), addresses);
    // A device is what it is called, whatever somebody wrote beside.
    for (const { name, addresses } of [...peers, self]) {
      hosts.set(full(name), addresses);
      for (const address of addresses) pointers.set(address, full(name));
    }
  }
  const branches = new Set<string>();
  for (const name of hosts.keys()) for (const above of namesAbove(name)) branches.add(above);
  return { domain: names?.domain, hosts, branches, pointers, ranges, split: names?.split ?? [], ground };
}

/** Answered from the map, or passed on: no look-up of the network's own names or addresses ever leaves the machine. */
export function decide(table: NameTable, { name, type, class: kind }: NameQuestion): Decision {
  const token = canaryToken(name);
  if (token !== undefined)
    return { kind: "canary", token, answer: addressAnswer(type, [CANARY_ANSWER as Ip], CANARY_DOMAIN) };
  if (kind !== "IN" && kind !== "ANY") return { kind: "forward" };
  const { domain } = table;
  if (domain !== undefined) {
    const reverse = prefixOfReverse(name);
    if (reverse !== undefined && isWithin(table.ranges, reverse))
      return answer(reverseAnswer(table, name, type, reverse));
    // A single label is asked for as it is by what has no search domain, or has tried it: it is no host of the Internet's.
    const host = table.hosts.get(name) ?? (name.includes(".") ? undefined : table.hosts.get(`${name}.${domain}`));
    if (host !== undefined) return answer(addressAnswer(type, host, isBelow(name, domain) ? domain : name));
  }
  const { ground } = table;
  if (ground.hosts.has(name)) return { kind: "forward", resolvers: ground.resolvers, direct: true };
  const split = table.split
    .filter((one) => isBelow(name, one.domain))
    .reduce<NameTable["split"][number] | undefined>(
      (best, one) => (best === undefined || one.domain.length > best.domain.length ? one : best),
      undefined,
    );
  if (domain !== undefined && isBelow(name, domain) && (split === undefined || split.domain.length <= domain.length)) {
    const isThere = name === domain || table.branches.has(name);
    return answer({ rcode: isThere ? RCODE.noError : RCODE.nameUnknown, zone: domain });
  }
  return { kind: "forward", resolvers: split?.resolvers };
}

const answer = (own: OwnAnswer): Decision => ({ kind: "answer", answer: own });
const isBelow = (name: string, domain: string): boolean => name === domain || name.endsWith(`.${domain}`);

function* namesAbove(name: string): Iterable<string> {
  for (let at = name.indexOf("."); at >= 0; at = name.indexOf(".", at + 1)) yield name.slice(at + 1);
}

function canaryToken(name: string): string | undefined {
  return name.endsWith(`.${CANARY_DOMAIN}`) ? name.slice(0, -CANARY_DOMAIN.length - 1) : undefined;
}

function addressAnswer(type: string, addresses: readonly Ip[], zone: string): OwnAnswer {
  const typeOf = (ip: Ip): "A" | "AAAA" => (familyOf(ip) === 4 ? "A" : "AAAA");
  const wanted = addresses.filter((ip) => type === typeOf(ip) || type === "ANY");
  return { rcode: RCODE.noError, addresses: wanted.map((ip) => ({ type: typeOf(ip), ip })), zone };
}

function reverseAnswer({ pointers }: NameTable, zone: string, type: string, reverse: Reverse): OwnAnswer {
  const pointer = reverse.isWhole ? pointers.get(reverse.ip) : undefined;
  if (pointer === undefined) return { rcode: reverse.isWhole ? RCODE.nameUnknown : RCODE.noError, zone };
  return { rcode: RCODE.noError, zone, ...(type === "PTR" || type === "ANY" ? { pointer } : {}) };
}

type Reverse = { readonly ip: Ip; readonly bits: number; readonly isWhole: boolean };

const isWithin = (ranges: readonly Cidr[], { ip, bits }: Reverse): boolean =>
  ranges.some((range) => cidrContains(range, ip) && bits >= cidrLength(range));

/** The address, or the beginning of one, that a name of the reverse tree stands for (RFC 1035 §3.5, RFC 3596 §2.5). */
function prefixOfReverse(name: string): Reverse | undefined {
  const four = /^((?:\d{1,3}\.){1,4})in-addr\.arpa$/.exec(name)?.[1];
  const six = /^((?:[0-9a-f]\.){1,32})ip6\.arpa$/.exec(name)?.[1];
  const labels = (four ?? six)?.slice(0, -1).split(".").reverse();
  if (labels === undefined) return undefined;
  if (four !== undefined) {
    const bytes = labels.map(Number);
    if (bytes.some((byte) => byte > 255)) return undefined;
    const ip = ipFromBytes(Uint8Array.from([...bytes, 0, 0, 0, 0].slice(0, 4)));
    return { ip, bits: 8 * bytes.length, isWhole: bytes.length === 4 };
  }
  const hex = labels.join("").padEnd(32, "0");
  const ip = ipFromBytes(Uint8Array.from({ length: 16 }, (_, i) => Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16)));
  return { ip, bits: 4 * labels.length, isWhole: labels.length === 32 };
}
