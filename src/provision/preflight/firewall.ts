import type { FirewallRule, GuestFirewall } from "../../pve/guests.js";
import { WIREGUARD_PORT } from "../payload.js";
import { type Finding, fine, warns } from "./finding.js";

export type Guarded = {
  readonly vmid: number;
  readonly name: string;
  readonly node: string;
  /** As in the container's configuration. */
  readonly net0: string;
  readonly firewall: GuestFirewall | undefined;
  /** Undefined when the login may not know: then it is taken for on. */
  readonly datacenterOn: boolean | undefined;
};

/**
 * Proxmox's own firewall in front of a container: it counts when it is on for the datacenter, for the container, and
 * for its network card. New containers are made without it; somebody may have switched it on since.
 */
export function firewallFinding(guarded: Guarded): Finding {
  const { vmid, name, node, firewall, datacenterOn } = guarded;
  const label = `firewall of "${name}"`;
  if (!/(?:^|,)firewall=1(?:,|$)/.test(guarded.net0)) return fine(label, "not on for its network card");
  if (datacenterOn === false) return fine(label, "not on for the datacenter");
  if (firewall === undefined) return fine(label, "on for its network card; what it does this login may not see");
  if (!firewall.on) return fine(label, "not on for the container");
  const at = `/nodes/${node}/lxc/${vmid}/firewall`;
  const rule = `pvesh create ${at}/rules --type`;
  const lines: string[] = [];
  // Its own are then the ones that are written there: one that DHCP or a router gave is not.
  if (firewall.ipFilter && /,ip6?=(?:dhcp|auto)(?:,|$)/.test(guarded.net0))
    lines.push(`pvesh set ${at}/options --ipfilter 0`);
  if (!passes(firewall, "in"))
    lines.push(`${rule} in --action ACCEPT --proto udp --dport ${WIREGUARD_PORT} --enable 1`);
  if (!passes(firewall, "out")) lines.push(`${rule} out --action ACCEPT --enable 1`);
  if (lines.length === 0) return fine(label, `on, and lets udp/${WIREGUARD_PORT} through`);
  return warns(label, `Proxmox's firewall keeps traffic from container ${vmid}`, {
    why: `peers reach it on udp/${WIREGUARD_PORT}, and it hands their traffic on, from the address that the network gave it`,
    advice: ["on the Proxmox host, as root:", ...lines].join("\n"),
  });
}

/** First match wins. A security group may hold anything; it is taken for one that lets through. */
function passes({ policyIn, policyOut, rules }: GuestFirewall, direction: "in" | "out"): boolean {
  const port = direction === "in" ? WIREGUARD_PORT : undefined;
  for (const rule of rules) {
    if (!rule.on) continue;
    if (rule.type === "group") return true;
    if (rule.type !== direction || !covers(rule, port)) continue;
    return rule.action === "ACCEPT";
  }
  return (direction === "in" ? policyIn : policyOut) === "ACCEPT";
}

/** Outwards, only a rule for everything says what becomes of everything. */
function covers({ proto, dport, source }: FirewallRule, port: number | undefined): boolean {
  if (port === undefined) return proto === "" && dport === "";
  // A rule for some senders says nothing of the others.
  if (source !== "") return false;
  if (proto !== "" && proto !== "udp") return false;
  if (dport === "") return true;
  return dport.split(",").some((part) => {
    const [from = "", to = from] = part.split(":");
    return port >= Number(from) && port <= Number(to);
  });
}
