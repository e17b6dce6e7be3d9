import type { Permissions } from "../../pve/guests.js";
import { missing, type Need, pveumLines } from "../../pve/permissions.js";
import { type Finding, fine, onHost, stops, warns } from "./finding.js";

/** What is done with the rights, in the order of need. */
export type Needs = {
  readonly create: readonly Need[];
  readonly upgrade: readonly Need[];
  readonly diagnosis: readonly Need[];
};

/** The login's effective rights against what is asked of them; all that is missing is told at once. */
export function rightsFindings(login: string, held: Permissions, needs: Needs): Finding[] {
  const lacks = (group: readonly Need[]): { what: string; advice: string } | undefined => {
    const lacking = missing(held, group);
    if (lacking.length === 0) return undefined;
    return { what: `${login} lacks ${byPath(lacking)}`, advice: onHost(...pveumLines(login, lacking)) };
  };
  const create = lacks(needs.create);
  const upgrade = lacks(needs.upgrade);
  const diagnosis = lacks(needs.diagnosis);
  return [
    create === undefined
      ? fine("permissions", "all that a create needs")
      : stops("permissions", "permissions-missing", create.what, { advice: create.advice }),
    upgrade === undefined
      ? fine("for upgrades", "all that keeping the state of before needs")
      : warns("for upgrades", upgrade.what, { why: "an upgrade keeps what was", advice: upgrade.advice }),
    ...(diagnosis === undefined
      ? []
      : [warns("for diagnosis", diagnosis.what, { why: "to read kernel and packages", advice: diagnosis.advice })]),
  ];
}

/** "VM.Audit, VM.Backup on /vms; SDN.Use on /sdn/…" */
function byPath(needs: readonly Need[]): string {
  const paths = new Map<string, string[]>();
  for (const { path, anyOf } of needs) {
    const privs = paths.get(path) ?? [];
    if (!privs.includes(anyOf[0] ?? "")) paths.set(path, [...privs, anyOf[0] ?? ""]);
  }
  return [...paths].map(([path, privs]) => `${privs.join(", ")} on ${path}`).join("; ");
}
