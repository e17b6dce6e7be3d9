import { asFailure, Failure } from "../kit/failure.js";
import { ownContainers } from "../provision/observe.js";
import { judgeExisting } from "../provision/preflight/existing.js";
import { observeHost } from "../provision/preflight/facts.js";
import { type Finding, fine, stops, warns } from "../provision/preflight/finding.js";
import { judgeHost } from "../provision/preflight/judge.js";
import { openSsh } from "../sys/ssh.js";
import type { Call, Outcome } from "./command.js";
import { readAppliance } from "./createparts.js";
import { type OpenedHost, onlyHost, openHost } from "./hosts.js";
import { knownMachine } from "./machinelogin.js";
import { renderFolded } from "./table.js";

/** Tries all that an exit node will need of a host, and looks at those that are there. Exit code 1 when something stops. */
export async function hostCheck(call: Call): Promise<Outcome> {
  const opened = await openHost(call.parts, call.args[0] ?? (await onlyHost(call.parts)), { signal: call.signal });
  try {
    const findings = await checkHost(call, opened);
    const ok = findings.every(({ severity }) => severity !== "stops");
    return {
      value: { host: opened.name, ok, findings },
      text: renderFindings(findings),
      ...(ok ? {} : { exitCode: 1 }),
    };
  } finally {
    opened.pve.close();
  }
}

async function checkHost(call: Call, opened: OpenedHost): Promise<Finding[]> {
  const { name: hostName, entry, pve } = opened;
  const { login, pveNode, defaults } = entry;
  const shell = entry.ssh !== undefined;
  try {
    const guests = await pve.guests();
    const wish = { hostName, login, pveNode, options: defaults, shell };
    const facts = await observeHost(pve, wish, guests, () => readAppliance(call.parts));
    return [
      fine("connection", `${entry.url}, certificate as pinned`),
      fine("login", login),
      ...judgeHost(wish, facts),
      ...(await jumpFindings(call, opened)),
      ...(await judgeExisting(pve, hostName, await ownContainers(pve))),
    ];
  } catch (error) {
    return [notEvenIn(asFailure(error), opened)];
  }
}

const DOORS: Readonly<Record<string, string>> = {
  unreachable: "connection",
  "fingerprint-mismatch": "certificate",
  "login-refused": "login",
};

export function notEvenIn(failure: Failure, { name, entry }: OpenedHost): Finding {
  const advice =
    failure.code === "fingerprint-mismatch"
      ? `if the certificate was renewed: exitnode host add ${name} --url ${entry.url}, and compare it again`
      : failure.advice;
  return stops(DOORS[failure.code] ?? "host", failure.code, failure.message, advice === undefined ? {} : { advice });
}

/** The way through the host's own sshd, where the entry names one. */
async function jumpFindings(call: Call, { name, entry }: OpenedHost): Promise<Finding[]> {
  if (entry.ssh === undefined) return [];
  const { jump } = entry.ssh;
  try {
    (await openSsh(await knownMachine(call, jump, name), call.signal)).close();
    return [fine("SSH jump", `${jump} lets our key in`)];
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return [
      warns("SSH jump", error.message, {
        why: "a container that cannot be reached from here is reached through it",
        advice: `exitnode host add ${name} --ssh-jump ${jump}`,
      }),
    ];
  }
}

const MARKS = { fine: "ok", warns: "warning", stops: "STOPS" } as const;

function renderFindings(findings: readonly Finding[]): string {
  const table = renderFolded(findings.map(({ name, severity, what }) => [name, MARKS[severity], what]));
  const told = new Set<string>();
  const mends = findings.flatMap(({ name, why, advice }) => {
    // Several may ask for the same line: it is shown once.
    const lines = (advice ?? "").split("\n").filter((line) => line !== "" && !told.has(line));
    for (const line of lines) if (line.trimStart().startsWith("pveum")) told.add(line);
    const title = `\n${name}${why === undefined ? "" : ` (${why})`}:`;
    const commands = lines.filter((line) => !line.endsWith(":"));
    return commands.length === 0 ? [] : [title, ...lines.map((line) => `  ${line}`)];
  });
  return [table, ...mends].join("\n");
}
