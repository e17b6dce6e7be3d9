import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { lockHolder, tryLock } from "../sys/lock.js";
import type { User } from "../sys/users.js";
import { type AgentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import { tryAgentStatus } from "./agentclient.js";
import {
  ensureFolders,
  ensureUser,
  installProgram,
  joinConfig,
  readAgentConfig,
  writeJoin,
  writeJoinKey,
} from "./agentfiles.js";
import { AGENT_LOG, openAgentLog } from "./agentlog.js";
import type { Call, Outcome, Parts } from "./command.js";
import { stopAgent } from "./down.js";
import { requireRoot } from "./root.js";
import { explainWaiting } from "./status.js";
import { runsSystemd, startUnit } from "./systemdunit.js";
import { loginConfig, signIn } from "./uplogin.js";
import { describeOffer, offerFrom, withOffer, writeOffer } from "./upoffer.js";

/** From the start of the agent to the coordinator's word, or to working from the map at hand. */
const UP_TIMEOUT_MS: Millis = 30 * SECOND;
/** For a device that works without the coordinator as well. */
const REACH_TIMEOUT_MS: Millis = 3 * SECOND;
const POLL_MS: Millis = 100;

/** One at a time: two would start two agents, and take back each other's join. */
export async function up(call: Call): Promise<Outcome> {
  requireRoot("up");
  const lock = `exitnode-up-${call.parts.paths.etc}`;
  const unlock = await tryLock(lock);
  if (unlock !== undefined) return bringUp(call).finally(unlock);
  const holder = await lockHolder(lock);
  const which = holder === undefined ? "" : ` (process ${holder})`;
  throw new Failure("already-running", `another \`exitnode up\` is at work on this machine${which}`, {
    advice: "wait for it to end, then: exitnode status",
  });
}

async function bringUp(call: Call): Promise<Outcome> {
  const { options, parts, signal } = call;
  const joinKey = text(options.join) ?? parts.env.EXITNODE_JOIN_KEY;
  const running = await tryAgentStatus(parts.paths);
  const known = await readAgentConfig(parts);
  const login = options.login !== undefined;
  const offer = offerFrom(options);
  if (login && joinKey !== undefined)
    throw new Failure("usage", "a machine joins by a join key or by a sign-in, not by both", {
      advice: "exitnode up --login https://<coordinator>",
    });
  // A machine that is in shows a new key of its own network to renew itself.
  if (joinKey !== undefined && known?.coordinator.publicKey === decodeJoinKey(joinKey).coordinatorKey) {
    await writeJoinKey(parts, await ensureUser(parts), joinKey);
    if (running !== undefined) await stopAgent(parts);
    const { join: _, ...rest } = options;
    return bringUp({
      ...call,
      options: rest,
      parts: { ...parts, env: { ...parts.env, EXITNODE_JOIN_KEY: undefined } },
    });
  }
  if ((joinKey !== undefined || login) && known !== undefined) {
    throw new Failure("already-joined", `this machine is a device already: ${running?.name ?? known.name}`, {
      advice: "exitnode up                (start it)\nexitnode down --forget     (leave, then join again)",
    });
  }
  if (known !== undefined && (await writeOffer(parts, known, offer)) && running !== undefined) {
    await stopAgent(parts);
    return bringUp(call);
  }
  if (running !== undefined && running.waiting !== "key-expired")
    return { value: running, text: `${running.name} is up already` };
  if (joinKey === undefined && known === undefined && !login)
    throw new Failure("join-key-required", "this machine is not a device yet", {
      advice:
        "exitnode up --join KEY     (a key from: exitnode key create)\nexitnode up --login URL    (sign in at the coordinator)",
    });
  const wanted = { name: text(options.name), dataPlane: text(options.dataPlane) };
  // All that can be refused comes before the first change.
  const joining = login
    ? { config: withOffer(await loginConfig({ options, signal }, wanted), offer) }
    : joinKey === undefined
      ? undefined
      : { joinKey, config: withOffer(joinConfig(joinKey, wanted), offer) };
  const program = await installProgram(parts.paths);
  const user = await ensureUser(parts);
  await ensureFolders(parts.paths, user);
  if (login && joining !== undefined) await signIn({ parts, signal }, joining.config, user);
  if (joining !== undefined) await writeJoin(parts, user, joinKey, joining.config);
  if (running !== undefined && known !== undefined) return renew({ parts, signal }, known, user);
  const logPath = join(parts.paths.var, AGENT_LOG);
  if (runsSystemd()) await startUnit(parts, program);
  else startSupervisor(parts, logPath);
  const status = await settled(parts, signal);
  const refusal = status?.coordinator.refusal;
  if (status === undefined || refusal !== undefined) {
    await stopAgent(parts);
    if (joining !== undefined) await forgetJoin(parts);
    if (refusal === "lock-differs") throw lockDiffers("this machine has not joined", status);
    if (refusal !== undefined)
      throw new Failure(refusal, `the coordinator refused this device: ${status?.coordinator.reason ?? refusal}`, {
        advice: "ask for a new join key, made where the coordinator is administered: exitnode key create",
      });
    throw new Failure("agent-not-started", `the agent did not come up within ${UP_TIMEOUT_MS / SECOND} s`, {
      advice: `tail ${logPath}`,
    });
  }
  if (status.coordinator.mapSeq === undefined) {
    await stopAgent(parts);
    if (joining !== undefined) await forgetJoin(parts);
    throw new Failure(
      "coordinator-unreachable",
      `the coordinator does not answer: ${status.coordinator.reason ?? "no reply"}`,
      {
        advice:
          "check that this machine is online and that the coordinator's port is open, then: exitnode up --join KEY",
      },
    );
  }
  // What a known device says so far may be from the map it had: whether it has to sign in again, the coordinator knows.
  const fresh = known === undefined || status.coordinator.connected ? status : await reached(parts, signal);
  if (fresh?.coordinator.refusal === "lock-differs") throw lockDiffers("this device is not connected", fresh);
  if (fresh?.waiting === "key-expired" && known !== undefined) return renew({ parts, signal }, known, user);
  return {
    value: fresh ?? status,
    text: [describeUp(fresh ?? status), ...describeOffer(offer, status.name)].join("\n"),
  };
}

/** The agent runs, and its peers do without it until its person has signed in again. */
async function renew(call: Pick<Call, "parts" | "signal">, known: AgentConfig, user: User): Promise<Outcome> {
  const { parts, signal } = call;
  parts.say("this device's key has expired: its person has to sign in again");
  await signIn(call, known, user);
  const status = await polled(parts, signal, ({ waiting }) => waiting !== "key-expired");
  if (status === undefined) throw new Failure("agent-silent", "the agent does not answer", { advice: "exitnode up" });
  return { value: status, text: describeUp(status) };
}

/** What `up` ends with: whether an exit is to be chosen, or still is. */
export function describeUp(status: AgentStatus): string {
  if (status.waiting !== undefined) return `${status.name} is up, and waits ${explainWaiting(status).join("\n  ")}`;
  const exits = status.peers.filter(({ role }) => role === "exit-node").map(({ name }) => name);
  const next = exits[0] === undefined || status.exit !== undefined ? "exitnode status" : `exitnode use ${exits[0]}`;
  const through = status.exit === undefined ? "" : `\nthrough ${status.exit.name}, as before`;
  const line = status.coordinator.connected ? "" : " from the map it has; the coordinator is not reached yet";
  return `${status.name} is up${line}: ${status.addresses.join(", ")}${through}\nnext: ${next}`;
}

/** Waits for a map, a refusal or the deadline; undefined when no agent ever answered. */
const settled = (parts: Parts, signal: AbortSignal): Promise<AgentStatus | undefined> =>
  polled(parts, signal, ({ coordinator }) => coordinator.mapSeq !== undefined || coordinator.refusal !== undefined);

/** Waits for the coordinator, and for the map that follows its greeting. */
async function reached(parts: Parts, signal: AbortSignal): Promise<AgentStatus | undefined> {
  await polled(parts, signal, ({ coordinator }) => coordinator.connected, REACH_TIMEOUT_MS);
  await parts.clock.sleep(2 * POLL_MS, signal).catch(() => undefined);
  return polled(parts, signal, () => true, REACH_TIMEOUT_MS);
}

/** The first status that will do, or the last one before the deadline. */
async function polled(
  parts: Parts,
  signal: AbortSignal,
  willDo: (status: AgentStatus) => boolean,
  timeoutMs = UP_TIMEOUT_MS,
): Promise<AgentStatus | undefined> {
  const deadline = parts.clock.now() + timeoutMs;
  let last: AgentStatus | undefined;
  while (parts.clock.now() < deadline && !signal.aborted) {
    last = (await tryAgentStatus(parts.paths).catch(() => undefined)) ?? last;
    if (last !== undefined && willDo(last)) return last;
    await parts.clock.sleep(POLL_MS, signal).catch(() => undefined);
  }
  return last;
}

/** Detached: it outlives this command and the terminal. */
function startSupervisor(parts: Parts, logPath: string): void {
  const log = openAgentLog(logPath);
  const { EXITNODE_JOIN_KEY: _, ...env } = parts.env;
  try {
    const main = process.argv[1] ?? "";
    const child = spawn(process.execPath, [main, "agent"], {
      detached: true,
      stdio: ["ignore", log, log],
      cwd: "/",
      env: env as Record<string, string>,
    });
    child.unref();
  } finally {
    closeSync(log);
  }
}

/** The key and the coordinator name different trusted devices: one of them is wrong, and nobody knows which. */
const lockDiffers = (what: string, status: AgentStatus | undefined): Failure =>
  new Failure("lock-differs", `${what}: ${status?.coordinator.reason ?? "the lists of trusted devices differ"}`, {
    advice: [
      "exitnode lock status    (on a trusted device)",
      "if it shows what the join key names, somebody else may have the coordinator: do not use it",
      "otherwise make a new join key there: exitnode key create",
    ].join("\n"),
  });

async function forgetJoin(parts: Parts): Promise<void> {
  await parts.files.remove(join(parts.paths.etc, DEVICE_FILES.config));
  for (const name of [DEVICE_FILES.joinKey, DEVICE_FILES.map, DEVICE_FILES.choice, DEVICE_FILES.lock])
    await parts.files.remove(join(parts.paths.var, name));
}

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
