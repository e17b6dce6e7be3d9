import { Failure } from "../kit/failure.js";
import { readLogs } from "../provision/logs.js";
import type { Call, Outcome } from "./command.js";
import { openedHost, provisionParts } from "./createparts.js";
import { noProgress } from "./createprogress.js";
import { onItsHost } from "./itshost.js";

const UNITS: Readonly<Record<string, readonly string[]>> = {
  agent: ["exitnode-agent"],
  coordinator: ["exitnode-coordinator"],
  ssh: ["ssh"],
  all: [],
};
const LINES_DEFAULT = 100;
const LINES_MAX = 10_000;

export async function exitNodeLogs(call: Call): Promise<Outcome> {
  const [name = ""] = call.args;
  const { unit = "agent", lines = String(LINES_DEFAULT) } = call.options;
  const units = typeof unit === "string" && Object.hasOwn(UNITS, unit) ? UNITS[unit] : undefined;
  if (units === undefined)
    throw new Failure("usage", `expected --unit with one of ${Object.keys(UNITS).join(", ")}, got "${unit}"`);
  const count = Number(lines);
  if (!Number.isInteger(count) || count < 1 || count > LINES_MAX)
    throw new Failure("usage", `expected --lines from 1 to ${LINES_MAX}, got "${lines}"`);
  const { opened, request } = await openedHost(await onItsHost(call, name));
  try {
    const parts = await provisionParts(call, opened, noProgress);
    const text = await readLogs(parts, request, name, { units, lines: count });
    return { value: { name, lines: text.split("\n").filter((line) => line !== "") }, text };
  } finally {
    opened.pve.close();
  }
}
