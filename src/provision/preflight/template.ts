import type { Volume } from "../../pve/guests.js";
import { isOurTemplate } from "../identity.js";
import type { Appliance } from "../parts.js";
import { type Finding, fine, listOf, stops } from "./finding.js";

export type ChosenTemplate =
  | { readonly kind: "on-host"; readonly volid: string }
  | { readonly kind: "upload"; readonly name: string }
  | { readonly kind: "missing"; readonly what: string };

/** The newest of our templates among a storage's volumes. */
export const newestTemplate = (volumes: readonly Volume[]): Volume | undefined =>
  volumes
    .filter(({ volid }) => isOurTemplate(volid))
    .sort((left, right) => right.createdAtSeconds - left.createdAtSeconds)[0];

/** Debian's own: it needs the Internet once, for the packages that it lacks. */
const isStandard = (volid: string): boolean => /:vztmpl\/debian-13-standard_[^/]*$/.test(volid);

/**
 * The one asked for; else the one built here, which is uploaded if need be; else the newest of ours on the host; else
 * Debian's.
 */
export function chooseTemplate(
  wanted: string | undefined,
  storage: string,
  there: readonly Volume[],
  appliance: Appliance | undefined,
): ChosenTemplate {
  if (wanted !== undefined) {
    const volid = wanted.includes(":") ? wanted : `${storage}:vztmpl/${wanted}`;
    if (there.some((volume) => volume.volid === volid)) return { kind: "on-host", volid };
    if (appliance?.name === wanted) return { kind: "upload", name: appliance.name };
    const list = listOf(there.map((volume) => volume.volid));
    return { kind: "missing", what: `there is no template ${volid} on the host; there is: ${list}` };
  }
  if (appliance !== undefined) {
    const volid = `${storage}:vztmpl/${appliance.name}`;
    // Another size under our name is an upload that was cut off, or another build: it is replaced.
    const same = there.some((volume) => volume.volid === volid && volume.sizeBytes === appliance.sizeBytes);
    return same ? { kind: "on-host", volid } : { kind: "upload", name: appliance.name };
  }
  const newest = newestTemplate(there);
  if (newest !== undefined) return { kind: "on-host", volid: newest.volid };
  const standard = there
    .map(({ volid }) => volid)
    .filter(isStandard)
    .sort()
    .at(-1);
  if (standard !== undefined) return { kind: "on-host", volid: standard };
  return {
    kind: "missing",
    what: `neither the host (storage "${storage}") nor this machine has the exit node's template`,
  };
}

export function templateFinding(template: ChosenTemplate): Finding {
  switch (template.kind) {
    case "on-host":
      return fine(
        "template",
        isStandard(template.volid) ? `${template.volid}, Debian's: a create installs what it lacks` : template.volid,
      );
    case "upload":
      return fine("template", `${template.name}, which a create uploads`);
    case "missing":
      return stops("template", "template-missing", template.what, {
        advice: "exitnode appliance build, or where mmdebstrap is missing: exitnode appliance build --on HOST",
      });
  }
}
