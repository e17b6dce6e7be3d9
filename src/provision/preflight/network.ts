import type { Bridge } from "../../pve/guests.js";
import { type Finding, fine, listOf, onHost, stops, warns } from "./finding.js";

/** What an installation of Proxmox VE has, or else the first there is. */
export const defaultBridge = (bridges: readonly Bridge[]): string =>
  (bridges.find(({ name }) => name === "vmbr0") ?? bridges[0])?.name ?? "vmbr0";

export function bridgeFinding(
  bridges: readonly Bridge[],
  name: string,
  at: { readonly node: string; readonly hostName: string },
): Finding {
  const bridge = bridges.find((one) => one.name === name);
  if (bridge?.active) return fine("bridge", `${name}${bridge.cidr ? ` (${bridge.cidr})` : ""}`);
  if (bridge !== undefined)
    return stops("bridge", "bridge-down", `the bridge ${name} of ${at.node} is not up`, {
      advice: onHost(`ifup ${name}`),
    });
  // A login may use a bridge and see none: the create tells.
  if (bridges.length === 0)
    return warns("bridge", `this login sees no bridge on ${at.node}; ${name} is taken`, {
      why: "the container's network card goes there",
      advice: onHost("ip link show type bridge"),
    });
  return stops(
    "bridge",
    "bridge-unknown",
    `there is no bridge "${name}" on ${at.node}; there is: ${listOf(bridges.map((one) => one.name))}`,
    { advice: `exitnode create --host ${at.hostName} --bridge ${bridges[0]?.name ?? "vmbr0"}` },
  );
}

/** A running container on the same bridge and VLAN that is to get its address by DHCP, and whether it has one. */
export type DhcpWitness = { readonly vmid: number; readonly name: string; readonly address: string | undefined };

/**
 * Whether somebody hands out addresses shows only in those who have one: the PVE node itself, or a container that
 * asked for one there.
 */
export function dhcpFinding(
  wanted: { readonly ip: string; readonly bridge: Bridge | undefined; readonly vlan: number | undefined },
  witnesses: readonly DhcpWitness[],
): Finding {
  const { ip, bridge, vlan } = wanted;
  const where = `${bridge?.name ?? "the bridge"}${vlan === undefined ? "" : ` in VLAN ${vlan}`}`;
  if (ip !== "dhcp") return fine("DHCP", `not needed: the address is ${ip}`);
  const served = witnesses.find(({ address }) => address !== undefined);
  if (served !== undefined) return fine("DHCP", `container ${served.vmid} has ${served.address} from it on ${where}`);
  if (bridge?.byDhcp === true && vlan === undefined) return fine("DHCP", `the PVE node has its own address from it`);
  const waiting = witnesses[0];
  if (waiting === undefined)
    return fine("DHCP", `nobody on ${where} tells; a create waits for an address, and gives up if none comes`);
  return warns("DHCP", `container ${waiting.vmid} "${waiting.name}" on ${where} asked for an address and has none`, {
    why: "the exit node asks for its address there too",
    advice: "give it one: exitnode create --ip 192.168.1.5/24 --gateway 192.168.1.1",
  });
}
