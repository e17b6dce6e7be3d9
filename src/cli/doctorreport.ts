import type { Finding } from "../provision/preflight/finding.js";
import { fold, SCREEN_COLUMNS } from "./table.js";

/** What was found about one place: this machine, the coordinator, a Proxmox host. */
export type Report = { readonly about: string; readonly findings: readonly Finding[] };
export type Trouble = Finding & { readonly about: string };

const SEVERITIES = ["stops", "warns"] as const;
const MARKS = { stops: "✗", warns: "!" } as const;

/** What stops comes first; among equals the order is that of likelihood, in which they were looked for. */
export function troubleIn({ about, findings }: Report): Trouble[] {
  const seen = new Set<string>();
  return SEVERITIES.flatMap((wanted) =>
    findings
      .filter(({ severity, name, what }) => {
        const key = `${name}\n${what}`;
        if (severity !== wanted || seen.has(key)) return false;
        seen.add(key);
        return true;
      })
      .map((finding) => ({ about, ...finding })),
  );
}

/** Only what is wrong, each with its cure; and where nothing is, what was looked at. */
export function describeReport(reports: readonly Report[]): string {
  return reports.map(describePlace).join("\n\n");
}

function describePlace(report: Report): string {
  const trouble = troubleIn(report);
  if (trouble.length === 0) {
    const looked = [...new Set(report.findings.map(({ name }) => name))].join(", ");
    return fold(`${report.about}: nothing found; looked at ${looked || "nothing"}`, SCREEN_COLUMNS, "  ").join("\n");
  }
  return [`${report.about}:`, ...trouble.map(describeOne)].join("\n");
}

function describeOne({ name, severity, what, why, advice, code }: Trouble): string {
  const mark = severity === "fine" ? " " : MARKS[severity];
  const words = `${name}: ${what}${code === undefined ? "" : ` [${code}]`}`;
  // What is a command stays as it is typed; its first line may say where.
  const lines = (advice ?? "").split("\n").filter((line) => line !== "");
  return [
    ...fold(words, SCREEN_COLUMNS - 4, "  ").map((line, i) => (i === 0 ? `  ${mark} ${line}` : `  ${line}`)),
    ...(why === undefined ? [] : fold(why, SCREEN_COLUMNS - 6).map((line) => `      ${line}`)),
    ...lines.map((line, i) => `    ${i === 0 ? "→" : " "} ${line}`),
  ].join("\n");
}
