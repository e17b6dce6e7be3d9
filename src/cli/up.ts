import { spawn } from "node:child_process";
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from "node:fs";
import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { tryAgentStatus } from "./agentclient.js";
import { ensureFolders, ensureUser, installProgram, joinConfig, readAgentConfig, writeJoin } from "./agentfiles.js";
import type { Call, Outcome, Parts } from "./command.js";
import { stopAgent } from "./down.js";
import { requireRoot } from "./root.js";
import { runsSystemd, startUnit } from "./systemdunit.js";

/** From the start of the agent to the coordinator's word, or to working from the map at hand. */
const UP_TIMEOUT_MS: Millis = 30 * SECOND;
const POLL_MS: Millis = 100;
/** A log larger than this is begun anew at the next start; an agent in order writes some lines a day. */
const LOG_BYTES_MAX = 1024 * 1024;

export async function up({ options, parts, signal }: Call): Promise<Outcome> {
  requireRoot("up");
  const joinKey = text(options.join) ?? parts.env.EXITNODE_JOIN_KEY;
  const running = await tryAgentStatus(parts.paths);
  const known = await readAgentConfig(parts);
  if (joinKey !== undefined && known !== undefined) {
    throw new Failure("already-joined", `this machine is a device already: ${known.name}`, {
      advice: "exitnode up                (start it)\nexitnode down --forget     (leave, then join again)",
    });
  }
  if (running !== undefined) return { value: running, text: `${running.name} is up already` };
  if (joinKey === undefined && known === undefined)
    throw new Failure("join-key-required", "this machine is not a device yet", {
      advice: "exitnode up --join KEY     (a key from: exitnode key create)",
    });
  const wanted = { name: text(options.name), dataPlane: text(options.dataPlane) };
  // All that can be refused comes before the first change.
  const joining = joinKey === undefined ? undefined : { joinKey, config: joinConfig(joinKey, wanted) };
  const program = await installProgram(parts.paths);
  const user = await ensureUser(parts);
  await ensureFolders(parts.paths, user);
  if (joining !== undefined) await writeJoin(parts, user, joining.joinKey, joining.config);
  const logPath = join(parts.paths.var, "agent.log");
  if (runsSystemd()) await startUnit(parts, program);
  else startSupervisor(parts, logPath);
  const status = await settled(parts, signal);
  const refusal = status?.coordinator.refusal;
  if (status === undefined || refusal !== undefined) {
    await stopAgent(parts);
    if (joinKey !== undefined) await forgetJoin(parts);
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
    if (joinKey !== undefined) await forgetJoin(parts);
    throw new Failure(
      "coordinator-unreachable",
      `the coordinator does not answer: ${status.coordinator.reason ?? "no reply"}`,
      {
        advice:
          "check that this machine is online and that the coordinator's port is open, then: exitnode up --join KEY",
      },
    );
  }
  return { value: status, text: describeUp(status) };
}

function describeUp(status: AgentStatus): string {
  const exits = status.peers.filter(({ role }) => role === "exit-node").map(({ name }) => name);
  const next = exits[0] === undefined ? "exitnode status" : `exitnode use ${exits[0]}`;
  const line = status.coordinator.connected ? "" : " from the map it has; the coordinator is not reached yet";
  return `${status.name} is up${line}: ${status.addresses.join(", ")}\nnext: ${next}`;
}

/** Waits for a map, a refusal or the deadline; undefined when no agent ever answered. */
async function settled(parts: Parts, signal: AbortSignal): Promise<AgentStatus | undefined> {
  const deadline = parts.clock.now() + UP_TIMEOUT_MS;
  let last: AgentStatus | undefined;
  while (parts.clock.now() < deadline && !signal.aborted) {
    last = (await tryAgentStatus(parts.paths).catch(() => undefined)) ?? last;
    if (last?.coordinator.mapSeq !== undefined || last?.coordinator.refusal !== undefined) return last;
    await parts.clock.sleep(POLL_MS, signal).catch(() => undefined);
  }
  return last;
}

/** Detached: it outlives this command and the terminal. */
function startSupervisor(parts: Parts, logPath: string): void {
  // The folder is the agent's: root follows no link that is put there.
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_WRONLY } = constants;
  const log = openSync(logPath, O_APPEND | O_CREAT | O_NOFOLLOW | O_WRONLY, 0o640);
  if (fstatSync(log).size > LOG_BYTES_MAX) ftruncateSync(log);
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

async function forgetJoin(parts: Parts): Promise<void> {
  await parts.files.remove(join(parts.paths.etc, DEVICE_FILES.config));
  for (const name of [DEVICE_FILES.joinKey, DEVICE_FILES.map, DEVICE_FILES.choice])
    await parts.files.remove(join(parts.paths.var, name));
}

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
