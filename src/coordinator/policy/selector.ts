import { type Cidr, tryCidr } from "../../kit/ip.js";

/** Whom or what a policy speaks of. */
export type Selector =
  /** "*": every device. */
  | { readonly kind: "everyone" }
  | { readonly kind: "login"; readonly name: string }
  | { readonly kind: "group"; readonly name: string }
  | { readonly kind: "tag"; readonly name: string }
  | { readonly kind: "device"; readonly name: string }
  | { readonly kind: "autogroup"; readonly name: Autogroup }
  | { readonly kind: "network"; readonly network: Cidr };

/**
 * member: devices of people, and those of nobody that are no exit nodes; tagged: devices with a tag; admin: untagged
 * devices of administrators; self: the devices of whoever asks; internet: what is public, through an exit node.
 */
export const AUTOGROUPS = ["member", "self", "internet", "tagged", "admin"] as const;
export type Autogroup = (typeof AUTOGROUPS)[number];

export const SELECTOR_FORMS =
  'a login, group:NAME, tag:NAME, device:NAME, autogroup:NAME, a name of "hosts", an address, a prefix, or "*"';

/** Undefined when the text is none; a word without a prefix is a host's name, or else somebody's login. */
export function readSelector(text: string, hosts: ReadonlyMap<string, Cidr>): Selector | undefined {
  if (text === "*") return { kind: "everyone" };
  const network = hosts.get(text) ?? tryCidr(text);
  if (network !== undefined) return { kind: "network", network };
  const [, prefix, name] = /^([a-z]+):(.+)$/.exec(text) ?? [];
  if (prefix === undefined || name === undefined)
    return /^[^\s:*/]{1,254}$/.test(text) ? { kind: "login", name: text } : undefined;
  if (prefix === "autogroup") {
    const known = AUTOGROUPS.find((one) => one === name);
    return known === undefined ? undefined : { kind: "autogroup", name: known };
  }
  // Bare words are never devices: whoever joins may ask for a name that somebody's rights go by.
  if (prefix !== "group" && prefix !== "tag" && prefix !== "device") return undefined;
  return NAME.test(name) ? { kind: prefix, name } : undefined;
}

export const NAME = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

/** Selectors of devices by what these are: two of one key select the same ones. Networks select by address. */
export function selectorKey(selector: Exclude<Selector, { kind: "network" }>): string {
  return selector.kind === "everyone" ? "*" : `${selector.kind}:${selector.name}`;
}

/** Ports of one protocol, as a grant names them. */
export type Ports = {
  readonly protocol: "any" | "tcp" | "udp" | "icmp";
  /** Undefined: all of them. */
  readonly range?: readonly [number, number];
};

export const PORT_FORMS = '"*", icmp, tcp:22, udp:5000-5010, tcp, or 443 for both tcp and udp';
export const PORT_MAX = 65_535;

/** Undefined when the text is none. */
export function readPorts(text: string): Ports[] | undefined {
  if (text === "*") return [{ protocol: "any" }];
  if (text === "icmp") return [{ protocol: "icmp" }];
  const match = /^(?:(tcp|udp)(?::(?=.))?)?(?:(\*)|(\d{1,5})(?:-(\d{1,5}))?)?$/.exec(text);
  if (match === null || text === "") return undefined;
  const [, protocol, , low, high = low] = match;
  const protocols = protocol === undefined ? (["tcp", "udp"] as const) : ([protocol as "tcp" | "udp"] as const);
  if (low === undefined) return protocols.map((one) => ({ protocol: one }));
  const [first, last] = [Number(low), Number(high)];
  if (first > last || last > PORT_MAX) return undefined;
  return protocols.map((one) => ({ protocol: one, range: [first, last] }));
}

/** As the policy would say it. */
export function portsText({ protocol, range }: Ports): string {
  if (protocol === "any") return "everything";
  if (range === undefined) return protocol;
  return `${protocol}:${range[0] === range[1] ? range[0] : `${range[0]}-${range[1]}`}`;
}

export const portsHold = ({ protocol, range }: Ports, asked: "tcp" | "udp" | "icmp", port: number): boolean =>
  (protocol === "any" || protocol === asked) && (range === undefined || (range[0] <= port && port <= range[1]));
