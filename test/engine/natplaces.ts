import { localExec, mustRun } from "../../src/sys/exec.js";
import { until } from "./patience.js";
import { must, type Place, placeOf, removePlaces } from "./places.js";

/** A place behind a home router, the router, and a place on the Internet. */
export type NatPlaces = { readonly inside: Place; readonly router: Place; readonly outside: Place };

export const INSIDE = "192.168.99.1";
export const ROUTER = "10.99.7.1";
export const OUTSIDE = "10.99.7.2";
/** Of a mapping, in both of the kernel's states: far below what a router has, so that a test sees it end. */
export const MAPPING_TIMEOUT_S = 2;

export async function makeNatPlaces(prefix: string): Promise<NatPlaces> {
  const names = [`${prefix}1`, `${prefix}2`, `${prefix}3`] as const;
  removePlaces(...names);
  for (const name of names) await mustRun(localExec, ["ip", "netns", "add", name]);
  const places = { inside: placeOf(names[0]), router: placeOf(names[1]), outside: placeOf(names[2]) };
  const { inside, router, outside } = places;
  // Each place in one go: a dozen programs for every address and link would take longer than the tests.
  await batch(router, [
    `link add in type veth peer name wire netns ${inside.name}`,
    `link add out type veth peer name wire netns ${outside.name}`,
    "address add 192.168.99.254/24 dev in",
    `address add ${ROUTER}/24 dev out`,
    ...["lo", "in", "out"].map((link) => `link set ${link} up`),
  ]);
  await batch(inside, [
    `address add ${INSIDE}/24 dev wire`,
    ...["lo", "wire"].map((link) => `link set ${link} up`),
    "route add default via 192.168.99.254",
  ]);
  await batch(outside, [`address add ${OUTSIDE}/24 dev wire`, ...["lo", "wire"].map((link) => `link set ${link} up`)]);
  await masquerade(router);
  const timeouts = ["", "_stream"].map(
    (state) => `net.netfilter.nf_conntrack_udp_timeout${state}=${MAPPING_TIMEOUT_S}`,
  );
  await must(router, `sysctl -qw net.ipv4.ip_forward=1 ${timeouts.join(" ")}`);
  return places;
}

const batch = (place: Place, lines: readonly string[]): Promise<string> =>
  must(place, "ip -batch -", `${lines.join("\n")}\n`);

export const removeNatPlaces = (prefix: string): void => removePlaces(`${prefix}1`, `${prefix}2`, `${prefix}3`);

/** What comes from inside leaves with the router's address; `ports` such as ":40000-40009" chooses from these. */
export async function masquerade(router: Place, ports = ""): Promise<void> {
  await must(
    router,
    "nft -f -",
    `table ip nat {}
delete table ip nat
table ip nat {
  chain post {
    type nat hook postrouting priority srcnat;
    oifname "out" meta l4proto udp masquerade${ports === "" ? "" : ` to ${ports}`}
  }
}
table ip filter {}
delete table ip filter
table ip filter {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "out" ct state new drop
  }
}
`,
  );
}

/** Waits for the router to forget everybody, which it does when nobody says anything. The list leaves out the expired. */
export const forgotten = (router: Place): Promise<number> =>
  until("the router has no mapping", async () => (await must(router, "cat /proc/net/nf_conntrack")) === "");

/** Forgets every mapping, as a router does that loses its line; the kernel does it a little later. */
export async function lineLost(router: Place, address: string): Promise<void> {
  await must(router, "ip link set out down");
  await forgotten(router);
  await must(router, "ip address flush dev out");
  await must(router, `ip address add ${address}/24 dev out`);
  await must(router, "ip link set out up");
}
