import { Failure } from "../kit/failure.js";
import { type AgentStatus, EXITS_MAX, NEAREST } from "../wire/agentsocket.js";
import { DNS_CHOICES, type DnsChoice } from "../wire/names.js";
import { askUse, statusOfAgent } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { describeExits } from "./exitwords.js";
import { describeLookups } from "./lookupway.js";
import { describeWay, peerNamed } from "./peerway.js";

/** How long the first handshake with the exit may take before we say that it does not answer. */
const ACTIVE_TIMEOUT_MS = 15_000;
const POLL_MS = 200;

export async function use({ args, options, parts, signal }: Call): Promise<Outcome> {
  const [name, others] = namesFrom(args[0] ?? "");
  const dns = dnsFrom(options.dns);
  const before = await statusOfAgent(parts.paths);
  if (name === "none") {
    const status = await askUse(parts.paths, null);
    const text = before.exit === undefined ? "no exit node was in use" : `no longer through ${before.exit.name}`;
    return { value: { exit: null, peers: status.peers.length }, text };
  }
  let status = await askUse(parts.paths, name, others, dns);
  const deadline = parts.clock.now() + ACTIVE_TIMEOUT_MS;
  while (status.exit?.state !== "active" && parts.clock.now() < deadline && !signal.aborted) {
    await parts.clock.sleep(POLL_MS, signal).catch(() => undefined);
    status = await statusOfAgent(parts.paths);
  }
  if (status.exit?.state !== "active")
    throw new Failure("exit-silent", `${describeSilence(name, others)}; until then, nothing leaves this machine`, {
      advice: "exitnode use none    (back to the ordinary way)\nexitnode status      (what is known of the exit node)",
    });
  return { value: { exit: status.exit }, text: describeUse(status) };
}

function describeUse(status: AgentStatus): string {
  const { exit } = status;
  if (exit === undefined) return "";
  const peer = peerNamed(status, exit.name);
  const families = exit.ipv6 ? "IPv4 and IPv6" : "IPv4; it has no IPv6, so IPv6 is held back rather than leaked";
  const way = describeWay(peer ?? { path: "searching" });
  const through = `everything now leaves through ${exit.name} (${way}): ${families}`;
  return [through, ...describeExits(exit), ...describeLookups(status)].join("\n");
}

/** "home,cabin" in the order they are wanted in. */
function namesFrom(given: string): [string, string[]] {
  const [name = "", ...others] = given.split(",").map((one) => one.trim());
  const all = [name, ...others];
  const word = all.find((one) => one === "none" || one === NEAREST);
  if (others.length > 0 && word !== undefined)
    throw new Failure("usage", `"${word}" stands alone, got "${given}"`, { advice: `exitnode use ${word}` });
  if (all.includes("") || all.length > EXITS_MAX)
    throw new Failure("usage", `expected one to ${EXITS_MAX} exit nodes with commas between, got "${given}"`, {
      advice: "exitnode use home,cabin",
    });
  return [name, others];
}

function describeSilence(name: string, others: readonly string[]): string {
  if (name === NEAREST) return "no exit node answers";
  return others.length === 0 ? `${name} does not answer` : `none of ${[name, ...others].join(", ")} answers`;
}

function dnsFrom(given: unknown): DnsChoice | undefined {
  const choice = DNS_CHOICES.find((one) => one === given);
  if (given === undefined || choice !== undefined) return choice;
  throw new Failure("usage", `expected --dns ${DNS_CHOICES.join(", ")}, got "${String(given)}"`);
}
