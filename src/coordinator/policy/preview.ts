import type { PolicyChange } from "../../wire/policyapi.js";
import { type Device, isActive } from "../device.js";
import type { Access } from "./access.js";
import { isWhole } from "./prefixes.js";
import { portsText } from "./selector.js";

/** Changes told one by one; `more` counts the rest. */
export const CHANGES_TOLD_MAX = 500;
/** Pairs of devices that are compared; a network where everybody knows thousands is compared in part. */
export const PAIRS_MAX = 500_000;

export type Preview = { readonly changes: readonly PolicyChange[]; readonly more: number; readonly whole: boolean };

/** Who gains and loses what when one policy follows the other, by device. */
export function preview(devices: readonly Device[], before: Access, after: Access, now: number): Preview {
  const names = new Map(devices.map(({ id, name }) => [id, name]));
  const active = new Set(devices.filter((device) => isActive(device, now)).map(({ id }) => id));
  const changes: PolicyChange[] = [];
  let [more, pairs] = [0, 0];
  for (const id of active) {
    const [had, has] = [rightsAt(id, before, active), rightsAt(id, after, active)];
    for (const source of [...new Set([...had.keys(), ...has.keys()])].sort()) {
      if (pairs++ >= PAIRS_MAX) return { changes, more, whole: false };
      const [old, fresh] = [had.get(source), has.get(source)];
      const name = names.get(id) ?? id;
      const gains = missing(name, fresh, old);
      const loses = missing(name, old, fresh);
      if (gains.length === 0 && loses.length === 0) continue;
      if (changes.length >= CHANGES_TOLD_MAX) more++;
      else changes.push({ device: names.get(source) ?? source, at: name, gains, loses });
    }
  }
  return { changes, more, whole: true };
}

/** Ports and a place, as in "tcp:22|" for the device itself and "everything|the Internet". */
type Right = string;

/** By the id of whoever has them. */
function rightsAt(id: string, access: Access, active: ReadonlySet<string>): Map<string, Set<Right>> {
  const rights = new Map<string, Set<Right>>();
  const among = new Set([...access.peersOf(id)].filter((one) => active.has(one)));
  const own = access.standing(id)?.own ?? [];
  for (const { grant, sources, reach } of access.doorsOf(id, among)) {
    const isOpen = reach.beyond.some(isWhole);
    const places = [
      ...(reach.inside.some((part) => own.includes(part)) ? [""] : []),
      ...reach.inside.filter((part) => !own.includes(part)),
      ...(reach.exits.length > 0 ? ["the Internet"] : reach.beyond),
      ...(isOpen ? ["the networks behind it"] : []),
    ];
    const words = grant.ports.flatMap((ports) => places.map((place) => `${portsText(ports)}|${place}`));
    for (const source of sources) {
      const set = rights.get(source) ?? new Set();
      rights.set(source, set);
      for (const word of words) set.add(word);
    }
  }
  return rights;
}

/** What the one has and the other has not, in words; everything of a place holds all of it. */
function missing(name: string, has: ReadonlySet<Right> = new Set(), lacks: ReadonlySet<Right> = new Set()): string[] {
  const covered = (right: Right): boolean => lacks.has(right) || lacks.has(right.replace(/^[^|]*/, "everything"));
  return [...has]
    .filter((right) => !covered(right))
    .sort()
    .map((right) => {
      const [ports = "", place = ""] = right.split("|");
      if (place === "") return `${ports} on ${name}`;
      return ports === "everything" ? `${place} through ${name}` : `${ports} in ${place} through ${name}`;
    });
}
