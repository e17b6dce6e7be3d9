import type { NetcheckAnswer } from "../wire/agentsocket.js";
import { askNetcheck } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { formatRoundTrip, labelled, renderFolded, renderTable } from "./table.js";

/** What stands between this device and the others. */
export async function netcheck({ parts }: Call): Promise<Outcome> {
  const value = await askNetcheck(parts.paths);
  return { value, text: describeNetcheck(value) };
}

export function describeNetcheck(found: NetcheckAnswer): string {
  const { portmap } = found;
  const rows = [
    ["UDP", describeUdp(found)],
    ["IPv4", describeAddress(found.ipv4, found.udp)],
    ["IPv6", describeAddress(found.ipv6, found.udp)],
    ...(found.nat === undefined ? [] : labelled("NAT", [found.nat.is, found.nat.means])),
    ...labelled("port mapping", [
      `PCP ${portmap.pcp}, NAT-PMP ${portmap.natpmp}, UPnP ${portmap.upnp}`,
      ...(portmap.endpoint === undefined ? [] : [`${portmap.endpoint} leads here; a relay proved it`]),
      ...portmap.why,
    ]),
    ...(found.forward === undefined ? [] : labelled("forward", describeForward(found.forward))),
    ["captive portal", describePortal(found.captivePortal)],
  ];
  return `${renderTable(rows)}\n\n${describeRelays(found.relays)}`;
}

function describeUdp({ udp, relays }: NetcheckAnswer): string {
  if (udp === undefined && relays.length === 0) return "unknown: no relay is known that could be asked";
  if (udp === undefined) return "unknown: no relay answers, over TCP neither";
  return udp ? "gets out" : "is blocked: no server answers, in neither family";
}

function describeAddress(mapped: string | undefined, udp: boolean | undefined): string {
  if (mapped !== undefined) return `${mapped} (WireGuard's port as the Internet sees it)`;
  return udp === true ? "unknown: no relay answered this way" : "unknown";
}

function describeForward({ endpoint, leads }: NonNullable<NetcheckAnswer["forward"]>): string[] {
  if (leads === "here") return [`${endpoint} leads here; a relay proved it`];
  if (leads === "untried") return [`${endpoint}, not proven: no relay outside has tried it`];
  return [`${endpoint} does not lead here`, "the router forwards it to another device, or not at all"];
}

function describePortal(seen: boolean | undefined): string {
  if (seen === undefined) return "unknown: nobody could be asked";
  return seen ? "yes: this network answers in the place of others; log in with a browser" : "no";
}

function describeRelays(relays: NetcheckAnswer["relays"]): string {
  if (relays.length === 0) return "no relay is known: only direct paths work";
  const rows = relays.map(({ name, url, home, state, roundTripMs, reason }) => [
    name,
    home ? `${state}, home` : state,
    roundTripMs === undefined ? "no answer" : formatRoundTrip(roundTripMs),
    reason === undefined ? url : `${url}: ${reason}`,
  ]);
  return renderFolded([["RELAY", "STATE", "LATENCY", "URL"], ...rows]);
}
