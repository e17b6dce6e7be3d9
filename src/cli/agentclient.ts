import { join } from "node:path";
import type * as z from "zod";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { askLine } from "../sys/localsocket.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import {
  type AgentRequest,
  type AgentStatus,
  agentAnswer,
  agentStatus,
  type CanariesAnswer,
  canariesAnswer,
  type LockAnswer,
  lockAnswer,
  type NetcheckAnswer,
  netcheckAnswer,
  type PingAnswer,
  pingAnswer,
  type WhoamiAnswer,
  whoamiAnswer,
} from "../wire/agentsocket.js";
import type { DnsChoice } from "../wire/names.js";
import { parseWith } from "../wire/schema.js";
import type { Paths } from "./paths.js";

/** Asking this machine's agent over its local socket. */

const ANSWER_TIMEOUT_MS: Millis = 20_000;

/** Undefined when no agent runs here. */
export async function tryAgentStatus(paths: Paths): Promise<AgentStatus | undefined> {
  return tryAsk(paths, { do: "status" }, agentStatus);
}

export async function statusOfAgent(paths: Paths): Promise<AgentStatus> {
  return demand(paths, { do: "status" }, agentStatus);
}

/** `others`: used in turn while the first fails. */
export async function askUse(
  paths: Paths,
  exit: string | null,
  others: readonly string[] = [],
  dns?: DnsChoice,
): Promise<AgentStatus> {
  const then = others.length === 0 ? {} : { others: [...others] };
  return demand(paths, { do: "use", exit, ...then, ...(dns === undefined ? {} : { dns }) }, agentStatus);
}

/** The addresses the world sees past the tunnel. */
export async function askWhoami(paths: Paths): Promise<WhoamiAnswer> {
  return demand(paths, { do: "whoami" }, whoamiAnswer);
}

/** Which look-ups below this name of the canary domain have come to the agent. */
export async function askCanaries(paths: Paths, name: string): Promise<CanariesAnswer> {
  return demand(paths, { do: "canaries", name }, canariesAnswer);
}

/** What stands between this device and the others, asked anew: up to ten seconds. */
export async function askNetcheck(paths: Paths): Promise<NetcheckAnswer> {
  return demand(paths, { do: "netcheck" }, netcheckAnswer);
}

/** One round trip to a peer, and the path it took. */
export async function askPing(paths: Paths, peer: string): Promise<PingAnswer> {
  return demand(paths, { do: "ping", peer }, pingAnswer);
}

/** Begins; the status tells when another key is in use. */
export async function askRotate(paths: Paths): Promise<void> {
  if ((await ask(paths, { do: "rotate" })) === undefined) throw notRunning();
}

/** False when there was no agent to stop. */
export async function askShutdown(paths: Paths): Promise<boolean> {
  return (await ask(paths, { do: "shutdown" })) !== undefined;
}

/** Of the device lock: undefined when no agent runs here. */
export async function tryAskLock(paths: Paths): Promise<LockAnswer | undefined> {
  return tryAsk(paths, { do: "lock" }, lockAnswer);
}

/** What this device signs, or takes in, of the device lock. */
export async function askLock<T>(
  paths: Paths,
  request: Extract<AgentRequest, { do: `lock-${string}` }>,
  answer: z.ZodType<T>,
): Promise<T> {
  return demand(paths, request, answer);
}

/** What an agent answers, which has to run. */
async function demand<T>(paths: Paths, request: AgentRequest, answer: z.ZodType<T>): Promise<T> {
  const value = await tryAsk(paths, request, answer);
  if (value === undefined) throw notRunning();
  return value;
}

async function tryAsk<T>(paths: Paths, request: AgentRequest, answer: z.ZodType<T>): Promise<T | undefined> {
  const value = await ask(paths, request);
  return value === undefined ? undefined : parseWith(answer, value, "the agent's answer");
}

async function ask(paths: Paths, request: AgentRequest): Promise<unknown> {
  const path = join(paths.run, DEVICE_FILES.socket);
  const raw = await askLine(path, request, ANSWER_TIMEOUT_MS).catch((cause: unknown) => {
    const denied = cause instanceof Error && "code" in cause && cause.code === "EACCES";
    throw denied
      ? new Failure("agent-denied", `this user may not speak to the agent at ${path}`, {
          advice: "run the command as root, or join the group exitnode",
        })
      : new Failure("agent-silent", `the agent at ${path} does not answer`, {
          cause,
          advice: "exitnode down, then exitnode up",
        });
  });
  if (raw === undefined) return undefined;
  const answer = parseWith(agentAnswer, raw, "the agent's answer");
  if (answer.ok) return answer.value ?? null;
  throw new Failure(answer.error.code, answer.error.message, { advice: answer.error.advice });
}

export const notRunning = (): Failure =>
  new Failure("agent-not-running", "no agent runs on this machine", { advice: "exitnode up --join KEY" });
