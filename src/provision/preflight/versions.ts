import { type Finding, fine, onHost, stops, warns } from "./finding.js";

/** Proxmox VE 8.4 is the first with every address of a container in its interface list. */
const PVE_MIN = [8, 4];
/** The first of Proxmox VE 9 that takes any Debian 13.x; before it, "unsupported debian version '13.1'". */
const CONTAINER_9_MIN = [6, 0, 10];
const UPDATE = onHost("apt update && apt full-upgrade");

export function versionFinding(version: string): Finding {
  if (isAtLeast(version, PVE_MIN)) return fine("version", `Proxmox VE ${version}`);
  return stops("version", "pve-too-old", `Proxmox VE ${version}, expected ${PVE_MIN.join(".")} or newer`, {
    advice: UPDATE,
  });
}

/** Whether the package that makes containers knows Debian 13. The login may not be allowed to read packages. */
export function containerPackageFinding(pveContainer: string | undefined): Finding[] {
  const name = "pve-container";
  if (pveContainer === undefined) return [];
  if (isAtLeast(pveContainer, CONTAINER_9_MIN)) return [fine(name, `${pveContainer}, which knows Debian 13`)];
  if (isAtLeast(pveContainer, [6]))
    return [
      stops(
        name,
        "pve-container-too-old",
        `pve-container ${pveContainer}, expected ${CONTAINER_9_MIN.join(".")} or newer`,
        {
          why: "it unpacks the exit node's Debian 13",
          advice: UPDATE,
        },
      ),
    ];
  return [
    warns(name, `pve-container ${pveContainer}: Proxmox VE 8 got Debian 13 with a late update`, {
      why: "it unpacks the exit node's Debian 13; one that is too old refuses, and nothing is left of the container",
      advice: UPDATE,
    }),
  ];
}

function isAtLeast(version: string, least: readonly number[]): boolean {
  const parts = version.split(/[.-]/).map(Number);
  for (const [i, wanted] of least.entries()) {
    const part = parts[i] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}
