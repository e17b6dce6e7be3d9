import { isDeepStrictEqual } from "node:util";
import { resolvConf } from "./dnsmasq.js";
import { renderFirewall } from "./firewall.js";
import { type LinkEnd, namespaceOf, type Place, type Topology } from "./internet.js";
import { renderAddress, renderRoute } from "./iproute.js";
import { renderLine } from "./line.js";

/**
 * From one topology to another while the lab is up, as steps: what goes, what comes, in an order in which every step
 * can be repeated. A killed change is mended by making it again.
 */
export type Step = {
  readonly place: string;
  /** `ip -batch` texts: what goes may be gone already; what comes is put in place of whatever is there. */
  readonly gone?: string;
  readonly wanted?: string;
  /** A whole table of nftables. */
  readonly rules?: string;
  /** Replaces the text of the place's resolv.conf: processes that run there have the file itself in view. */
  readonly resolvConf?: string;
  /** Every connection it has translated is forgotten, once the rules are there: the old kind of NAT knew it otherwise. */
  readonly forgetConnections?: true;
};

export function planReshape(before: Topology, after: Topology): Step[] {
  const moves = before.links.flatMap(([near, from]): Step[] => {
    const to = after.links.find(([end]) => isDeepStrictEqual(end, near))?.[1];
    return to === undefined || isDeepStrictEqual(to, from) ? [] : replug(to, after);
  });
  return [...moves, ...after.places.flatMap((place) => reshapePlace(findIn(before, place.name), place))];
}

/**
 * An interface leaves for another namespace and its bridge there: whoever is at the other end of the wire sees the
 * link go and come. Before addresses change, as on a real machine. It is taken from wherever a killed change left it.
 */
function replug(to: LinkEnd, after: Topology): Step[] {
  const bridge = findIn(after, to.place)?.devices.find(({ ports }) => ports?.includes(to.device) === true)?.name;
  const join = bridge === undefined ? "" : `link set dev ${to.device} master ${bridge}\n`;
  const others = after.places.filter(({ name, gateway }) => gateway !== undefined && name !== to.place);
  return [
    ...others.map(({ name }) => ({ place: name, gone: `link set dev ${to.device} netns ${namespaceOf(to.place)}\n` })),
    { place: to.place, wanted: `${join}link set dev ${to.device} up\n` },
  ];
}

function findIn(topology: Topology, name: string): Place | undefined {
  return topology.places.find((place) => place.name === name);
}

function reshapePlace(before: Place | undefined, after: Place): Step[] {
  if (before === undefined || isDeepStrictEqual(before, after)) return [];
  const addresses = { before: addressesOf(before), after: addressesOf(after) };
  const routes = { before: before.routes.map(renderRoute), after: after.routes.map(renderRoute) };
  const gone = [
    ...routes.before.filter((route) => !routes.after.includes(route)).map((route) => `route delete ${route}\n`),
    ...addresses.before.filter((one) => !addresses.after.includes(one)).map((one) => `address delete ${one}\n`),
  ].join("");
  const wanted = [
    ...addresses.after.filter((one) => !addresses.before.includes(one)).map((one) => `address replace ${one}\n`),
    // All of them: with an address the kernel takes away the routes that need it.
    ...(gone === "" && isDeepStrictEqual(routes.before, routes.after)
      ? []
      : routes.after.map((route) => `route replace ${route}\n`)),
  ].join("");
  const step: Omit<Step, "place"> = {
    ...(gone === "" ? {} : { gone }),
    ...(wanted === "" ? {} : { wanted }),
    ...(isDeepStrictEqual(rulesOf(before), rulesOf(after)) ? {} : { rules: rulesOf(after) }),
    ...(isDeepStrictEqual(translationOf(before), translationOf(after)) ? {} : { forgetConnections: true as const }),
    ...(resolvConf(before) === resolvConf(after) ? {} : { resolvConf: resolvConf(after) }),
  };
  return Object.keys(step).length === 0 ? [] : [{ place: after.name, ...step }];
}

/** What nftables does in a place; empty where it does nothing. */
export function rulesOf({ gateway, provider }: Place): string {
  if (gateway !== undefined) return renderFirewall(gateway);
  return provider === undefined ? "" : renderLine(provider);
}

/** What decides who becomes whom here; loss, silence and MTU do not. */
function translationOf({ gateway, provider }: Place): unknown {
  if (gateway === undefined) return provider?.carrier;
  const { muteTooBig: _, dhcp: __, ...translation } = gateway;
  return translation;
}

const addressesOf = (place: Place): string[] =>
  place.devices.flatMap((one) => one.addresses.map((address) => renderAddress(address, one)));
