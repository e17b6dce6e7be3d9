import { type Cidr, type Family, familyOf, type Ip, parseCidr } from "../kit/ip.js";
import { DNS_TABLE, dnsTable } from "./clientdns.js";
import { routingRules, ruleArguments, type WantRules } from "./hostrules.js";
import { INBOUND_TABLE, inboundTable } from "./inbound.js";
import { isTable, type NftTable, type ObservedTable, renderTable } from "./nfttable.js";

/**
 * What a device's network should be, and the commands that lead there from what it is.
 *
 * Mesh ranges always go into the device; everything does while an exit is used, except what must not: the tunnel's
 * own datagrams (by mark), the agent's other sockets (by user), networks that stay direct. All of it lives in a
 * routing table and a block of rule preferences of ours, and two nftables tables: undone, nothing is left.
 */
export type HostNet = WantRules & {
  readonly device: string;
  readonly mtu: number;
  /** Into the device; 0.0.0.0/0 and ::/0 are added while `everything`, so that no family leaks past an exit. */
  readonly routes: readonly Cidr[];
  /** The networks this machine is in, whose conversations with it go on beside an exit. */
  readonly near?: readonly Cidr[];
};

/** Our routing table; far from 52 (tailscale), 7120 (netbird) and 51820 (wg-quick). */
export const ROUTING_TABLE = 5182;

/** What was there before us and cannot be told from the machine any more: kept by the caller across restarts. */
export type Previous = { readonly rpFilterAll?: number };

export type ObservedHostNet = {
  readonly device: string;
  readonly link: { readonly up: boolean; readonly mtu: number } | undefined;
  /** Global addresses of the device, with their prefix length. */
  readonly addresses: readonly string[];
  /** Rules in our block of preferences, as the arguments that would make them. */
  readonly rules: { readonly [family in Family]: readonly string[] };
  /** Routes in our table. */
  readonly routes: {
    readonly [family in Family]: readonly { readonly to: string; readonly dev: string | undefined }[];
  };
  readonly ip6: boolean;
  /** Of containers and virtual machines on this machine: nobody else is there, and no exit leads to them. */
  readonly own: readonly Cidr[];
  /** Our nftables tables; undefined for one that is not there. */
  readonly dns: ObservedTable | undefined;
  readonly inbound: ObservedTable | undefined;
  /** net.ipv4.conf.NAME.rp_filter */
  readonly rpFilter: { readonly [name: string]: number };
  readonly previous: Previous;
};

export type Step = { readonly argv: readonly string[]; readonly input?: string; readonly why: string };

/** RFC 3704: 1 drops what came in by another way than the answer would take; 2 only what has no way at all. */
const RP_STRICT = 1;
const RP_LOOSE = 2;
const RP_FILTER_ALL = "/proc/sys/net/ipv4/conf/all/rp_filter";

/** Undefined wants everything of ours gone. Applied, the next plan is empty. */
export function planHostNet(want: HostNet | undefined, observed: ObservedHostNet): Step[] {
  const families: Family[] = observed.ip6 ? [4, 6] : [4];
  // Rules are what turns traffic into the tunnel: set last, and taken away first.
  if (want === undefined)
    return [
      ...families.flatMap((family) => planRules([], observed, family)),
      ...planTables(undefined, observed),
      ...families.flatMap((family) => planRoutes([], observed, family)),
      ...planAddresses([], observed),
      ...(observed.link?.up
        ? [step("nothing is routed into it", "ip", "link", "set", "dev", observed.device, "down")]
        : []),
      ...planRpFilter(undefined, observed),
    ];
  return [
    ...planLink(want, observed),
    ...planAddresses(want.addresses.filter((ip) => observed.ip6 || familyOf(ip) === 4).map(withLength), observed),
    ...planRpFilter(want, observed),
    ...families.flatMap((family) => planRoutes(wantedRoutes(want, family), observed, family)),
    ...planTables(want, observed),
    ...families.flatMap((family) => planRules(wantedRules(want, observed, family), observed, family)),
  ];
}

/** What to keep before the plan's steps are run, and to hand back with every later observation. */
export function previousOf(want: HostNet | undefined, observed: ObservedHostNet): Previous {
  const { previous, rpFilter } = observed;
  // Until it is put back: the process may end between keeping this and running the steps.
  if (!want?.everything) return restoredRpFilter(observed) === undefined ? {} : previous;
  if (previous.rpFilterAll !== undefined) return previous;
  return isStrict(observed) ? { rpFilterAll: rpFilter.all ?? 0 } : {};
}

function planLink(want: HostNet, { link }: ObservedHostNet): Step[] {
  if (link?.up && link.mtu === want.mtu) return [];
  return [step("the device carries packets", "ip", "link", "set", "dev", want.device, "mtu", `${want.mtu}`, "up")];
}

function planAddresses(wanted: readonly string[], { addresses, device }: ObservedHostNet): Step[] {
  const gone = addresses.filter((address) => !wanted.includes(address));
  const fresh = wanted.filter((address) => !addresses.includes(address));
  return [
    ...gone.map((address) => step("not an address of ours", "ip", "address", "del", address, "dev", device)),
    // Nobody else can have the address: waiting for duplicates would only hold up the first packets.
    ...fresh.map((address) =>
      step("our address", "ip", "address", "add", address, "dev", device, ...(address.includes(":") ? ["nodad"] : [])),
    ),
  ];
}

const EVERYTHING: { readonly [family in Family]: Cidr } = { 4: parseCidr("0.0.0.0/0"), 6: parseCidr("::/0") };

function wantedRoutes(want: HostNet, family: Family): Cidr[] {
  const all = [...want.routes, ...(want.everything ? [EVERYTHING[family]] : [])];
  return [...new Set(all.filter((route) => familyOf(route) === family))];
}

function planRoutes(wanted: readonly Cidr[], observed: ObservedHostNet, family: Family): Step[] {
  const has = observed.routes[family];
  const { device } = observed;
  const ip = ["ip", `-${family}`, "route"];
  const table = ["table", `${ROUTING_TABLE}`];
  const gone = has.filter(({ to, dev }) => dev !== device || !wanted.some((route) => route === to));
  const fresh = wanted.filter((route) => !has.some(({ to, dev }) => to === route && dev === device));
  return [
    ...gone.map(({ to }) => step("not for the tunnel", ...ip, "del", to, ...table)),
    ...fresh.map((route) => step("reached through the tunnel", ...ip, "replace", route, "dev", device, ...table)),
  ];
}

function wantedRules(want: HostNet, { own }: ObservedHostNet, family: Family): string[] {
  const direct = [...new Set([...(want.direct ?? []), ...own])];
  return routingRules({ ...want, direct }, family).map(ruleArguments);
}

function planRules(wanted: readonly string[], observed: ObservedHostNet, family: Family): Step[] {
  const has = observed.rules[family];
  const ip = ["ip", `-${family}`, "rule"];
  const extra = [...has];
  const missing = wanted.filter((rule) => {
    const at = extra.indexOf(rule);
    if (at >= 0) extra.splice(at, 1);
    return at < 0;
  });
  // Exemptions come before what they exempt from, and go after it: no packet of ours enters the tunnel meanwhile.
  return [
    ...extra.reverse().map((rule) => step("no longer wanted", ...ip, "del", ...rule.split(" "))),
    ...missing.map((rule) => step("decides what enters the tunnel", ...ip, "add", ...rule.split(" "))),
  ];
}

function planTables(want: HostNet | undefined, { dns, inbound }: ObservedHostNet): Step[] {
  return [
    ...planTable(DNS_TABLE, "look-ups are answered by the agent", wantedDns(want), dns),
    ...planTable(INBOUND_TABLE, "what others begin is answered the way it came", wantedInbound(want), inbound),
  ];
}

function wantedDns(want: HostNet | undefined): NftTable | undefined {
  // Its own look-ups could not be told from the others'.
  if (want?.resolver === undefined || want.uid === undefined) return undefined;
  const { device, uid, everything, resolver } = want;
  return everything || resolver.asked.length > 0 ? dnsTable({ device, uid, everything, resolver }) : undefined;
}

function wantedInbound(want: HostNet | undefined): NftTable | undefined {
  if (want?.near === undefined || !want.everything || want.fwmark === 0) return undefined;
  return inboundTable({ device: want.device, fwmark: want.fwmark, near: want.near });
}

function planTable(name: string, why: string, want: NftTable | undefined, observed: ObservedTable | undefined): Step[] {
  if (want === undefined)
    return observed === undefined ? [] : [step("not needed any more", "nft", "delete", "table", "inet", name)];
  return isTable(want, observed) ? [] : [{ argv: ["nft", "-f", "-"], input: renderTable(want), why }];
}

/** A device's filter is the greater of its own and `all`: answers from an exit come in where they would not go out. */
function isStrict({ rpFilter }: ObservedHostNet): boolean {
  const { all = 0, ...devices } = rpFilter;
  return Object.entries(devices).some(([name, own]) => name !== "default" && Math.max(all, own) === RP_STRICT);
}

function planRpFilter(want: HostNet | undefined, observed: ObservedHostNet): Step[] {
  const write = (value: number, why: string): Step => ({ argv: ["tee", RP_FILTER_ALL], input: `${value}\n`, why });
  if (want?.everything)
    return isStrict(observed) ? [write(RP_LOOSE, "a strict filter drops the tunnel's answers")] : [];
  const restored = restoredRpFilter(observed);
  return restored === undefined ? [] : [write(restored, "as it was before us")];
}

/** Undefined when there is nothing to put back; changed by someone else meanwhile, it is theirs to keep. */
function restoredRpFilter({ previous, rpFilter }: ObservedHostNet): number | undefined {
  return rpFilter.all === RP_LOOSE && previous.rpFilterAll !== RP_LOOSE ? previous.rpFilterAll : undefined;
}

const withLength = (ip: Ip): string => `${ip}/${familyOf(ip) === 4 ? 32 : 128}`;
const step = (why: string, ...argv: readonly string[]): Step => ({ argv, why });
