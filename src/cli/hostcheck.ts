import { asFailure, type Failure } from "../kit/failure.js";
import type { PveHost } from "../pve/guests.js";
import { needsForCreate, needsForDiagnosis, needsForUpgrade } from "../pve/permissions.js";
import type { Call, Outcome } from "./command.js";
import type { HostEntry } from "./config.js";
import { type Check, type HostFacts, judgeHost, placesOf } from "./hostchecks.js";
import { openHost } from "./hosts.js";
import { renderTable } from "./table.js";

/** Tries what an exit node will need of a host. Exit code 1 when something blocks. */
export async function hostCheck({ args, parts, signal }: Call): Promise<Outcome> {
  const { name, entry, pve } = await openHost(parts, args[0] ?? "", { signal });
  try {
    const checks = await check(entry, pve);
    const blocked = checks.some(({ state }) => state === "blocked");
    return {
      value: { host: name, ok: !blocked, checks },
      text: renderChecks(checks),
      ...(blocked ? { exitCode: 1 } : {}),
    };
  } finally {
    pve.close();
  }
}

export async function check(entry: HostEntry, pve: PveHost): Promise<Check[]> {
  let facts: HostFacts;
  try {
    facts = await observe(entry, pve);
  } catch (error) {
    return [notEvenIn(asFailure(error), entry)];
  }
  return judgeHost(entry, facts);
}

async function observe(entry: HostEntry, pve: PveHost): Promise<HostFacts> {
  const { version } = await pve.version();
  const nodes = await pve.nodes();
  const node = entry.pveNode ?? nodes[0]?.name ?? "";
  if (nodes.find(({ name }) => name === node)?.online !== true) return { version, nodes, node, inside: undefined };
  const storages = await pve.storages(node);
  const bridges = await pve.bridges(node);
  const places = placesOf(entry.defaults, storages, bridges);
  const plan = { node, ...places, vlan: entry.defaults.vlan, pool: entry.defaults.pool, upload: true };
  const needs = { create: needsForCreate(plan), upgrade: needsForUpgrade(plan), diagnosis: needsForDiagnosis(plan) };
  const all = [...needs.create, ...needs.upgrade, ...needs.diagnosis];
  const held = await pve.permissions(all.map(({ path }) => path));
  const seesTemplates = storages.some(({ id }) => id === places.templateStorage);
  const templates = seesTemplates ? await pve.templates(node, places.templateStorage) : [];
  const kernel = held.get(`/nodes/${node}`)?.has("Sys.Audit") ? (await pve.nodeStatus(node)).kernel : undefined;
  return { version, nodes, node, inside: { storages, bridges, places, needs, held, templates, kernel } };
}

function notEvenIn(failure: Failure, entry: HostEntry): Check {
  const name = { unreachable: "connection", "fingerprint-mismatch": "certificate", "login-refused": "login" }[
    failure.code
  ];
  const fix =
    failure.code === "fingerprint-mismatch"
      ? `if the certificate was renewed: exitnode host add <name> --url ${entry.url}, and compare it again`
      : failure.advice;
  return { name: name ?? "host", state: "blocked", detail: failure.message, ...(fix === undefined ? {} : { fix }) };
}

const MARKS = { ok: "ok", warning: "warning", blocked: "BLOCKED" } as const;

function renderChecks(checks: readonly Check[]): string {
  const table = renderTable(checks.map(({ name, state, detail }) => [name, MARKS[state], detail]));
  const told = new Set<string>();
  const fixes = checks.flatMap(({ name, fix }) => {
    // Several checks may ask for the same line: it is shown once.
    const lines = (fix ?? "").split("\n").filter((line) => line !== "" && !told.has(line));
    for (const line of lines) told.add(line);
    return lines.length === 0 ? [] : [`\n${name}:`, ...lines.map((line) => `  ${line}`)];
  });
  return [table, ...fixes].join("\n");
}
