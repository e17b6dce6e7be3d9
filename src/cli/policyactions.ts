import { asFailure, Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import { type PolicyPreview, policyInfo, policyPreview, policySaved, policyVersions } from "../wire/policyapi.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

export async function showPolicy(call: Call): Promise<Outcome> {
  const policy = await callCoordinator(call, policyInfo, "GET", "/policy");
  const head = policy.version === 0 ? "# No policy was set: this is what holds without one.\n" : "";
  return { value: policy, text: `${head}${policy.text}` };
}

export async function previewPolicy(call: Call): Promise<Outcome> {
  const found = await tried(call, await fileText(call));
  return { value: found, text: [...failures(found), ...changes(found)].join("\n") };
}

export async function testPolicy(call: Call): Promise<Outcome> {
  const file = call.args[0];
  const found = await tried(call, file === undefined ? undefined : await fileText(call));
  const { failed, tests } = found;
  if (failed.length > 0)
    throw new Failure("policy-tests-failed", failures(found).join("\n"), {
      advice: `exitnode policy ${file === undefined ? "show" : `preview ${file}`}`,
    });
  return {
    value: found,
    text:
      tests === 0
        ? `${file ?? "the policy that holds"} has no tests`
        : tests === 1
          ? "its test holds"
          : `all ${tests} tests hold`,
  };
}

export async function setPolicy(call: Call): Promise<Outcome> {
  const text = await fileText(call);
  const found = await tried(call, text);
  if (found.failed.length > 0)
    throw new Failure("policy-tests-failed", failures(found).join("\n"), {
      advice: `correct it, then: exitnode policy test ${call.args[0]}`,
    });
  if (call.options.yes !== true) await confirm(call, found);
  const saved = await callCoordinator(call, policySaved, "PUT", "/policy", { text, replaces: found.version });
  return { value: saved, text: `version ${saved.saved} holds\n${changes(saved).join("\n")}` };
}

export async function listPolicies(call: Call): Promise<Outcome> {
  const { versions } = await callCoordinator(call, policyVersions, "GET", "/policy/versions");
  const now = call.parts.clock.wall();
  const rows = versions.map(({ version, createdAtMs, actor }) => [
    String(version),
    createdAtMs === undefined ? "" : `${formatDuration(now - createdAtMs)} ago`,
    actor ?? "",
  ]);
  const text = rows.length === 0 ? "no policy was ever set" : renderTable([["VERSION", "SET", "BY"], ...rows]);
  return { value: { versions }, text };
}

export async function rollBackPolicy(call: Call): Promise<Outcome> {
  const to = Number(call.args[0]);
  if (!Number.isInteger(to) || to < 1)
    throw new Failure("usage", `expected the number of a version, got "${call.args[0]}"`, {
      advice: "exitnode policy log",
    });
  const saved = await callCoordinator(call, policySaved, "POST", "/policy/rollback", { to });
  return { value: saved, text: `version ${saved.saved} holds, as ${to} did\n${changes(saved).join("\n")}` };
}

/** What the coordinator makes of a text; undefined is the policy that holds. */
async function tried(call: Call, text: string | undefined): Promise<PolicyPreview> {
  try {
    return await callCoordinator(call, policyPreview, "POST", "/policy/preview", text === undefined ? {} : { text });
  } catch (error) {
    const { code, message } = asFailure(error);
    const [file] = call.args;
    if (code !== "policy-invalid" || file === undefined) throw error;
    throw new Failure(code, `${file} is no policy:\n${message.replace(/^/gm, "  ")}\n `.trimEnd(), {
      cause: error,
      advice: `correct it, then: exitnode policy test ${file}\nexitnode policy show    (what holds now, in the same form)`,
    });
  }
}

async function fileText({ args, parts }: Call): Promise<string> {
  const path = args[0] ?? "";
  const text = await parts.files.readText(path);
  if (text === undefined)
    throw new Failure("file-missing", `there is no file ${path}`, { advice: `exitnode policy show > ${path}` });
  return text;
}

async function confirm(call: Call, found: PolicyPreview): Promise<void> {
  for (const line of changes(found)) call.parts.say(line);
  if (!call.parts.interactive)
    throw new Failure("unconfirmed", "nobody is there to confirm this", { advice: "add --yes" });
  const { terminalPrompt } = await import("../sys/prompt.js");
  if (await terminalPrompt(call.signal).confirm("Make this the policy?")) return;
  throw new Failure("cancelled", "cancelled; the policy is as it was");
}

const failures = ({ failed }: PolicyPreview): string[] => failed.map(({ line, message }) => `line ${line}: ${message}`);

/** "laptop gains tcp:22 on nas": devices that gain or lose the same stand in one line. */
function changes({ changes: all, more, whole }: PolicyPreview): string[] {
  const lines = new Map<string, { devices: string[]; verb: string; what: string }>();
  for (const { device, gains, loses } of all)
    for (const [verb, list] of [["gain", gains] as const, ["lose", loses] as const]) {
      if (list.length === 0) continue;
      const what = list.join(", ");
      const line = lines.get(`${verb} ${what}`) ?? { devices: [], verb, what };
      line.devices.push(device);
      lines.set(`${verb} ${what}`, line);
    }
  return [
    ...[...lines.values()].map(
      ({ devices, verb, what }) => `${names(devices)} ${verb}${devices.length === 1 ? "s" : ""} ${what}`,
    ),
    ...(all.length === 0 ? ["nobody gains or loses anything"] : []),
    ...(more === 0 ? [] : [`and ${more} more changes`]),
    ...(whole ? [] : ["the network is too large to be compared whole: there may be more"]),
  ];
}

const NAMED_MAX = 5;
function names(devices: readonly string[]): string {
  const more = devices.length - NAMED_MAX;
  return more > 0 ? `${devices.slice(0, NAMED_MAX).join(", ")} and ${more} more` : devices.join(", ");
}
