import { cidrContains, familyOf, type Ip, isPrivate } from "../../kit/ip.js";
import type { MapPeer, NetworkMap } from "../../wire/map.js";
import type { DnsChoice } from "../../wire/names.js";
import { type Choice, exitOf, offers } from "../desired.js";

/** Who is asked what is not the network's own, and which way the questions take. */
export type Upstreams = {
  readonly servers: readonly Ip[];
  readonly way: "tunnel" | "direct";
  /** What is in force; undefined without an exit. */
  readonly choice: DnsChoice | undefined;
  /** Why this is not what was chosen, in words. */
  readonly note?: string;
};

/** `own`: the resolvers of the network that this machine is in. */
export function upstreamsOf(map: NetworkMap, { exit: name, dns = "exit" }: Choice, own: readonly Ip[]): Upstreams {
  const told = map.names?.resolvers ?? [];
  const mine = told.length > 0 ? told : own;
  if (name === undefined) return { servers: mine, way: "direct", choice: undefined };
  if (dns === "mine") return { servers: mine, way: "direct", choice: "mine" };
  const exit = exitOf(map, { exit: name });
  // Gone from the map: nothing leaves this machine, and neither do its questions.
  if (exit === undefined) return { servers: [], way: "tunnel", choice: dns };
  const its = exit.resolvers.filter((ip) => offers(exit, familyOf(ip)));
  const reached = mine.filter((ip) => isReached(map, exit, ip));
  if (dns === "exit" && its.length > 0) return { servers: its, way: "tunnel", choice: "exit" };
  if (reached.length > 0)
    return {
      ...{ servers: reached, way: "tunnel", choice: "mine-via-exit" },
      ...(dns === "exit" ? { note: `${name} has no resolver of its own; this device's are asked through it` } : {}),
    };
  const which = mine.length === 0 ? "this network has no resolvers" : `this network's resolvers are private addresses`;
  return {
    ...{ servers: its, way: "tunnel", choice: "exit" },
    ...(dns === "exit" ? {} : { note: `${which}, which ${name} cannot ask; its own are asked instead` }),
  };
}

/** A private address is another machine there than here, unless it is in the mesh. */
function isReached(map: NetworkMap, exit: MapPeer, ip: Ip): boolean {
  return map.ranges.some((range) => cidrContains(range, ip)) || (!isPrivate(ip) && offers(exit, familyOf(ip)));
}
