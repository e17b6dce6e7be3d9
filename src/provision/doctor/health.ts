import { type Finding, fine, onHost, stops, warns } from "../preflight/finding.js";
import { createAgain, type Examined, inContainer } from "./examined.js";

/** Whether the exit node does its work: its daemons, its way out, and runs that were cut off. */
export function healthFindings(examined: Examined): Finding[] {
  return [
    ...interruptedFindings(examined),
    ...programFindings(examined),
    ...daemonFindings(examined),
    ...wayOutFindings(examined),
  ];
}

function interruptedFindings(examined: Examined): Finding[] {
  const { container, inside } = examined;
  const { save, name } = container.identity;
  if (save !== undefined)
    return [
      warns("upgrade", `an upgrade was cut off; the state of before is kept (${save.how} ${save.name})`, {
        advice: `exitnode upgrade ${name} --host ${examined.hostName}    (goes on, or goes back)`,
      }),
    ];
  if (inside === undefined || inside.pending.length === 0) return [];
  return [
    warns("files", `a run was cut off before it was done: ${inside.pending.join(", ")}`, {
      advice: createAgain(examined),
    }),
  ];
}

/** Only of interest where no address came: with one, something has asked for it. */
function programFindings(examined: Examined): Finding[] {
  const { symptoms, inside } = examined;
  if (inside !== undefined) return [];
  const has = (...names: string[]): boolean => names.some((name) => symptoms.networkPrograms.includes(name));
  if (!has("ifup", "networkctl"))
    return [
      stops("network", "ifupdown-missing", "the container has no ifupdown, and nothing else that sets up its network", {
        why: "Proxmox writes /etc/network/interfaces, and nobody reads it",
        advice: `our template has it: exitnode appliance upload\n${onHost(
          `pct set ${examined.container.vmid} --net0 '${withHostManaged(examined)}'    (Proxmox VE 9.1: the host asks)`,
        )}`,
      }),
    ];
  if (!has("dhcpcd", "dhclient", "udhcpc", "networkctl"))
    return [
      stops("network", "dhcp-client-missing", "the container has no DHCP client, and is to ask for its address", {
        advice: inContainer(examined, "dhclient -V    (then install dhcpcd-base, or give it a fixed address)"),
      }),
    ];
  return [];
}

const withHostManaged = ({ container }: Examined): string => `${container.config.options.net0 ?? ""},host-managed=1`;

function daemonFindings(examined: Examined): Finding[] {
  const { container, inside, hostName } = examined;
  if (inside === undefined) return [];
  const { name, coordinator } = container.identity;
  const wanted = ["exitnode-agent", ...(coordinator === true ? ["exitnode-coordinator"] : [])];
  const idle = wanted.filter((unit) => (inside.units.get(unit) ?? "unknown") !== "active");
  if (idle.length > 0)
    return idle.map((unit) =>
      stops("daemons", "daemon-down", `${unit}.service is ${inside.units.get(unit) ?? "unknown"}`, {
        advice: `${createAgain(examined)}\nexitnode logs ${name} --host ${hostName} --unit ${unit.replace("exitnode-", "")}`,
      }),
    );
  if (inside.agent !== undefined) return [fine("daemons", "run and answer")];
  return [
    stops("daemons", "agent-silent", "the agent runs and does not answer", {
      advice: `exitnode logs ${name} --host ${hostName}\n${inContainer(examined, "systemctl restart exitnode-agent")}`,
    }),
  ];
}

function wayOutFindings(examined: Examined): Finding[] {
  const { inside, hostName, container } = examined;
  if (inside === undefined) return [];
  const { ipv4, ipv6 } = inside.egress;
  if (ipv4 !== undefined || ipv6 !== undefined) return [fine("Internet", `seen as ${ipv4 ?? ipv6}`)];
  return [
    stops("Internet", "no-way-out", "the container reaches nobody in the Internet who would tell it its address", {
      why: "no route, no resolver, or a firewall in front of it: then its users get nowhere either",
      advice: `${inContainer(examined, "ping -c 1 1.1.1.1", "cat /etc/resolv.conf")}\nexitnode host check ${hostName}    (Proxmox's firewall for container ${container.vmid})`,
    }),
  ];
}
