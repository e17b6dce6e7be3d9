import { Failure } from "../../kit/failure.js";

/** One thing an exit node needs of a host, as it was found. */
export type Finding = {
  /** What was looked at: "container storage". */
  readonly name: string;
  /** "stops": a plan would fail at it. "warns": it works, or may work, and less well than it could. */
  readonly severity: "stops" | "warns" | "fine";
  readonly what: string;
  /** What it is good for, where the words before do not say so. */
  readonly why?: string;
  /** What to type, line by line. */
  readonly advice?: string;
  /** The code of the Failure that a plan ends with. */
  readonly code?: string;
};

type More = Pick<Finding, "why" | "advice">;

export const fine = (name: string, what: string): Finding => ({ name, severity: "fine", what });
export const warns = (name: string, what: string, more: More): Finding => ({ name, severity: "warns", what, ...more });
export const stops = (name: string, code: string, what: string, more: More = {}): Finding => ({
  name,
  severity: "stops",
  code,
  what,
  ...more,
});

/** Everything that stops a plan as one Failure, all advice with it; undefined when nothing does. */
export function refusal(findings: readonly Finding[]): Failure | undefined {
  const stopping = findings.filter(({ severity }) => severity === "stops");
  const [first, second] = stopping;
  if (first === undefined) return undefined;
  const lines = new Set(stopping.flatMap(({ advice }) => (advice ?? "").split("\n").filter((line) => line !== "")));
  const advice = lines.size === 0 ? undefined : [...lines].join("\n");
  if (second === undefined) return new Failure(first.code ?? "preflight-failed", first.what, { advice });
  const list = stopping.map(({ what }) => what).join("; ");
  return new Failure("preflight-failed", `${stopping.length} things are in the way: ${list}`, { advice });
}

/** "local, tank", or that there is nothing to choose from. */
export const listOf = (names: readonly string[]): string => names.join(", ") || "none that this login may see";

export const gib = (bytes: number): string => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;

/** Commands for the host's shell. */
export const onHost = (...lines: readonly string[]): string => ["on the Proxmox host, as root:", ...lines].join("\n");
