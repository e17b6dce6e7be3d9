import { type LabStatus, labStatus } from "../lab/lab.js";
import { topology } from "../lab/topology.js";
import type { Call, Outcome } from "./command.js";
import { labParts, requireMachine } from "./labparts.js";
import { describeSituation } from "./labsituation.js";
import { renderFolded, renderTable } from "./table.js";

/** Shows the lab, or that there is none. */
export async function status(call: Call): Promise<Outcome> {
  requireMachine(call, "lab status");
  const lab = await labStatus(labParts(call), topology);
  const text = lab.state === "absent" ? "there is no lab; raise it with: exitnode lab up" : describeLab(lab);
  return { value: lab, text };
}

/** Every place, daemon and container of a lab that is there. */
export function describeLab(lab: LabStatus): string {
  const forwards = lab.forwards.map(({ from, protocol, port, to }) => [`${from} ${protocol}/${port}`, to]);
  return [
    `the lab is ${lab.state}${lab.raisedFor === null ? "" : `, raised for ${lab.raisedFor}`}\n${describeSituation(lab.situation)}`.trimEnd(),
    renderFolded([
      ["PLACE", "WHAT", "ADDRESSES"],
      ...lab.places.map(({ name, title, addresses }) => [name, title, addresses.join(" ")]),
    ]),
    renderTable([
      ["DAEMON", "PLACE", "PROCESS", "LOG"],
      ...lab.daemons.map(({ name, place, pid, log }) => [name, place, pid === null ? "not running" : String(pid), log]),
    ]),
    lab.containers.length === 0
      ? "no containers"
      : renderTable([
          ["CONTAINER", "ON", "NAME", "STATE", "ADDRESS"],
          ...lab.containers.map(({ host, vmid, name, running, address }) => [
            String(vmid),
            host,
            name,
            running ? "running" : "stopped",
            address ?? "",
          ]),
        ]),
    ...(lab.vps === null
      ? []
      : [`vps is ${lab.vps.running ? "running" : "not running"}: ssh -F ${lab.vps.sshConfig} ${lab.vps.ssh}`]),
    forwards.length === 0
      ? "the home router forwards no ports"
      : renderTable([["FORWARDED BY THE HOME ROUTER", "TO"], ...forwards]),
  ].join("\n\n");
}
