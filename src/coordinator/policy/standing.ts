import { type Cidr, familyOf, type Ip, PRIVATE_RANGES } from "../../kit/ip.js";
import type { Device } from "../device.js";
import { approvedRoutes } from "../routes.js";
import type { Policy } from "./policy.js";
import { INTERNET, intersection, isWhole, overlap } from "./prefixes.js";
import { type Selector, selectorKey } from "./selector.js";

/** A person, as far as a policy cares. */
export type PolicyUser = { readonly login: string; readonly role: string; readonly disabledAtMs?: number };
export type Users = ReadonlyMap<string, PolicyUser>;

/** What a policy sees of a device. */
export type Standing = {
  /** The keys of all selectors that select it. */
  readonly keys: ReadonlySet<string>;
  /** Whose it is; "" of nobody; undefined when it acts as its tags. */
  readonly owner: string | undefined;
  /** Its own addresses. */
  readonly own: readonly Cidr[];
  /** Approved routes. */
  readonly subnets: readonly Cidr[];
  readonly exits: readonly Cidr[];
  readonly resolvers: readonly Ip[];
};

/** Where a grant lets its sources get to at a device. */
export type Reach = {
  /** The device itself and the subnets behind it. */
  readonly inside: readonly Cidr[];
  /** Beyond it, where it is an exit node. */
  readonly beyond: readonly Cidr[];
  /** The families of which everything, or everything public, is beyond it. */
  readonly exits: readonly Cidr[];
};

export function standingOf(device: Device, policy: Policy, users: Users, ranges: readonly Cidr[]): Standing {
  const owner = device.tags.length > 0 ? undefined : (device.userId ?? "");
  const user = owner === undefined ? undefined : users.get(owner);
  const keys = new Set<string>(["*", `device:${device.name}`]);
  // People may rename their devices, and what these may do goes by their owner.
  if (device.userId === undefined) keys.add(`from device:${device.name}`);
  for (const tag of device.tags) keys.add(`tag:${tag}`);
  for (const key of personKeys(owner, user, policy)) keys.add(key);
  // An exit node of nobody's is a part of the network, and asks for nothing.
  if (owner === "" && device.role === "exit-node") keys.delete("autogroup:member");
  const routes = approvedRoutes(device, autoApproved(keys, policy, device.report.routes)).filter(
    (route) => isWhole(route) || !ranges.some((range) => overlap(range, route)),
  );
  return {
    keys,
    owner,
    own: [`${device.ipv4}/32` as Cidr, `${device.ipv6}/128` as Cidr],
    subnets: routes.filter((route) => !isWhole(route)),
    exits: routes.filter(isWhole),
    resolvers: device.role === "exit-node" ? device.report.resolvers : [],
  };
}

/** What selects the devices of a person, or of nobody (""), or those that act as their tags. */
export function personKeys(owner: string | undefined, user: PolicyUser | undefined, policy: Policy): string[] {
  if (owner === undefined) return ["autogroup:tagged"];
  if (user === undefined) return ["autogroup:member"];
  if (user.disabledAtMs !== undefined) return [];
  const groups = [...policy.groups].filter(([, logins]) => logins.includes(user.login));
  const isAdmin = user.role === "owner" || user.role === "admin";
  return [
    "autogroup:member",
    `login:${user.login}`,
    ...groups.map(([name]) => `group:${name}`),
    ...(isAdmin ? ["autogroup:admin"] : []),
  ];
}

/** Of the routes that a device offers, those that need nobody's approval. */
function autoApproved(keys: ReadonlySet<string>, { autoApprovers }: Policy, offered: readonly Cidr[]): Cidr[] {
  return offered.filter((route) =>
    isWhole(route)
      ? selects(autoApprovers.exitNode, keys)
      : autoApprovers.routes.some(({ prefix, by }) => intersection(prefix, route) === route && selects(by, keys)),
  );
}

const selects = (selectors: readonly Selector[], keys: ReadonlySet<string>): boolean =>
  selectors.some((selector) => selector.kind !== "network" && keys.has(selectorKey(selector)));

/** The addresses that a device has as a source; none: it is not among them. */
export function sourcesOf(selectors: readonly Selector[], standing: Standing): readonly Cidr[] {
  const isSource = selectors.some(
    (one) =>
      one.kind !== "network" &&
      standing.keys.has(one.kind === "device" ? `from ${selectorKey(one)}` : selectorKey(one)),
  );
  if (!selectors.some(({ kind }) => kind === "network")) return isSource ? standing.own : [];
  const found = new Set<Cidr>(isSource ? standing.own : []);
  for (const selector of selectors)
    if (selector.kind === "network")
      for (const part of within(selector.network, [...standing.own, ...standing.subnets])) found.add(part);
  return [...found];
}

/** `autogroup:self` is not among it: that depends on who asks. */
export function reachOf(
  dst: readonly Selector[],
  via: readonly Selector[] | undefined,
  standing: Standing,
  ranges: readonly Cidr[],
): Reach | undefined {
  const inside = new Set<Cidr>();
  const beyond = new Set<Cidr>();
  const exits = new Set<Cidr>();
  const isVia = via === undefined || selects(via, standing.keys);
  for (const selector of dst)
    if (selector.kind === "network") {
      const { network } = selector;
      if (!isWhole(network)) {
        for (const part of within(network, standing.own)) inside.add(part);
        if (isVia) for (const part of within(network, standing.subnets)) inside.add(part);
      }
      if (standing.exits.length === 0) continue;
      // What is private is behind the exit node that is named, and not behind every other one too.
      const isOutside =
        isWhole(network) ||
        (via !== undefined && !ranges.some((range) => overlap(range, network))) ||
        !PRIVATE_RANGES.some((range) => overlap(range, network));
      if (isVia && isOutside)
        for (const exit of standing.exits) {
          if (familyOf(exit) !== familyOf(network)) continue;
          beyond.add(network);
          if (isWhole(network)) exits.add(exit);
        }
    } else if (selector.kind === "autogroup" && selector.name === "internet") {
      if (isVia)
        for (const exit of standing.exits) {
          for (const part of INTERNET[familyOf(exit)]) beyond.add(part);
          exits.add(exit);
        }
    } else if (standing.keys.has(selectorKey(selector))) {
      for (const own of standing.own) inside.add(own);
      if (selector.kind === "everyone") for (const subnet of standing.subnets) inside.add(subnet);
    }
  if (inside.size === 0 && beyond.size === 0) return undefined;
  return { inside: [...inside], beyond: [...beyond], exits: [...exits] };
}

/** Whether a grant is also one among the devices of the same owner. */
export const isSelf = (dst: readonly Selector[]): boolean =>
  dst.some((selector) => selector.kind === "autogroup" && selector.name === "self");

const within = (network: Cidr, parts: readonly Cidr[]): Cidr[] =>
  parts.flatMap((part) => intersection(network, part) ?? []);
