import { asFailure, Failure } from "../kit/failure.js";
import { type AgentStatus, EXITS_MAX, NEAREST } from "../wire/agentsocket.js";
import { DNS_CHOICES, type DnsChoice } from "../wire/names.js";
import { askPing, askUse, statusOfAgent } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { describeExits } from "./exitwords.js";
import { describeLookups } from "./lookupway.js";
import { describeWay, peerNamed } from "./peerway.js";
import { fold, renderTable, SCREEN_COLUMNS } from "./table.js";

/** How long the first handshake with the exit may take before we say that it does not answer. */
const ACTIVE_TIMEOUT_MS = 15_000;
const POLL_MS = 200;

export async function use(call: Call): Promise<Outcome> {
  const { args, options, parts, signal } = call;
  if (args[0] === undefined) return showExits(call);
  const [name, others] = namesFrom(args[0]);
  const dns = dnsFrom(options.dns);
  const before = await statusOfAgent(parts.paths);
  if (name === "none") {
    const status = await askUse(parts.paths, null);
    const text = before.exit === undefined ? "no exit node was in use" : `no longer through ${before.exit.name}`;
    return { value: { exit: null, peers: status.peers.length }, text };
  }
  let status = await askUse(parts.paths, name, others, dns);
  const deadline = parts.clock.now() + ACTIVE_TIMEOUT_MS;
  while (!(await isThrough(parts, status))) {
    if (parts.clock.now() >= deadline || signal.aborted)
      throw new Failure("exit-silent", `${describeSilence(name, others)}; until then, nothing leaves this machine`, {
        advice:
          "exitnode use none    (back to the ordinary way)\nexitnode status      (what is known of the exit node)",
      });
    await parts.clock.sleep(POLL_MS, signal).catch(() => undefined);
    status = await statusOfAgent(parts.paths);
  }
  return { value: { exit: status.exit ?? null }, text: describeUse(status) };
}

/** A handshake counts for three minutes, also when the exit has died meanwhile: so it has to answer now. */
async function isThrough({ paths }: Call["parts"], { exit }: AgentStatus): Promise<boolean> {
  if (exit?.state !== "active") return false;
  try {
    return (await askPing(paths, exit.name)).roundTripMs !== undefined;
  } catch (error) {
    // Of an agent that answers no probes the handshake is all there is.
    return asFailure(error).code === "peer-without-probes";
  }
}

/** What could be used, and what is. */
async function showExits({ options, parts }: Call): Promise<Outcome> {
  if (options.dns !== undefined) throw new Failure("usage", "--dns needs an exit node's name before it");
  const status = await statusOfAgent(parts.paths);
  const { exit } = status;
  const exits = status.peers.filter(({ role }) => role === "exit-node");
  const rows = exits.map((peer) => {
    const reached = peer.online || peer.path === "direct" ? "online" : "offline";
    return [peer.name, reached, peer.name === exit?.name ? "in use" : ""];
  });
  const others = exits.filter(({ name }) => name !== exit?.name);
  const next = [
    ...others.map(({ name }) => `exitnode use ${name}`),
    ...(exit === undefined ? [] : ["exitnode use none"]),
  ];
  return {
    value: { exit: exit ?? null, exits: exits.map(({ name, online }) => ({ name, online })) },
    text: [
      ...(exit === undefined ? ["no exit node is in use: traffic leaves by this network"] : []),
      exits.length === 0 ? "this network has no exit node" : renderTable([["EXIT NODE", "STATE", ""], ...rows]),
      ...(next.length === 0 ? [] : [`next: ${next.slice(0, NEXT_SHOWN_MAX).join(", or ")}`]),
    ].join("\n"),
  };
}

/** Of many exits two are example enough. */
const NEXT_SHOWN_MAX = 2;

function describeUse(status: AgentStatus): string {
  const { exit } = status;
  if (exit === undefined) return "";
  const peer = peerNamed(status, exit.name);
  const families = exit.ipv6 ? "IPv4 and IPv6" : "IPv4; it has no IPv6, so IPv6 is held back rather than leaked";
  const way = describeWay(peer ?? { path: "searching" });
  const through = `everything now leaves through ${exit.name} (${way}): ${families}`;
  const [where, ...more] = describeLookups(status);
  const lookups = where === undefined ? [] : [`look-ups ${where}`, ...more];
  return [through, ...describeExits(exit), ...lookups].flatMap((line) => fold(line, SCREEN_COLUMNS, "  ")).join("\n");
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
