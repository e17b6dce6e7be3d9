import { spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { join } from "node:path";
import { asFailure, Failure } from "../kit/failure.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import { findUser, type User } from "../sys/users.js";
import { AGENT_USER, installProgram } from "./agentfiles.js";
import { AGENT_LOG, boundLog, LOG_LOOK_MS, openAgentLog } from "./agentlog.js";
import type { Call, Outcome, Parts } from "./command.js";

/**
 * Where no systemd looks after the agent, this process does: it runs the agent as its own user with CAP_NET_ADMIN
 * alone, puts the machine's routing back whenever the agent ends, however it ends, and starts it again after a crash.
 */

export const PID_FILE = "supervisor.pid";
const RESTART_MIN_MS: Millis = SECOND;
const RESTART_MAX_MS: Millis = 30 * SECOND;
/** An agent that ran this long did not crash at its start: the next wait is short again. */
const STEADY_MS: Millis = MINUTE;

export async function supervise({ parts, signal }: Call): Promise<Outcome> {
  const user = await findUser(parts.files, AGENT_USER);
  if (process.getuid?.() !== 0 || user === undefined)
    throw new Failure("not-root", "the agent's supervisor must be started by root, by `exitnode up`", {
      advice: "sudo exitnode up",
    });
  const program = await installProgram(parts.paths);
  const pidFile = join(parts.paths.run, PID_FILE);
  await parts.files.write(pidFile, `${process.pid}\n`);
  const over = new AbortController();
  void keepLogShort(parts, AbortSignal.any([signal, over.signal]));
  let waitMs = RESTART_MIN_MS;
  while (!signal.aborted) {
    const startedAt = parts.clock.now();
    const code = await runAgent(parts, user, program, signal);
    await cleanUp(parts, program);
    if (code === 0 || signal.aborted) break;
    if (parts.clock.now() - startedAt > STEADY_MS) waitMs = RESTART_MIN_MS;
    parts.say(`the agent ended with code ${code}; starting it again in ${waitMs / SECOND} s`);
    await parts.clock.sleep(waitMs, signal).catch(() => undefined);
    waitMs = Math.min(waitMs * 2, RESTART_MAX_MS);
  }
  over.abort();
  await parts.files.remove(pidFile);
  return { value: { stopped: true }, text: "" };
}

/** A log that cannot be looked at does not end the agent. */
async function keepLogShort({ clock, paths, say }: Parts, signal: AbortSignal): Promise<void> {
  try {
    const log = openAgentLog(join(paths.var, AGENT_LOG));
    while (!signal.aborted) {
      boundLog(log);
      await clock.sleep(LOG_LOOK_MS, signal).catch(() => undefined);
    }
    closeSync(log);
  } catch (error) {
    say(`the agent's log is not kept short: ${asFailure(error).message}`);
  }
}

/** The agent's argv: its user, no group of root's, one capability, no way to gain another, and an end with ours. */
function agentCommand(user: User, node: string, program: string): string[] {
  return [
    "setpriv",
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    "--clear-groups",
    "--bounding-set=-all,+net_admin",
    "--inh-caps=-all,+net_admin",
    "--ambient-caps=-all,+net_admin",
    "--no-new-privs",
    "--pdeathsig=TERM",
    node,
    "--max-old-space-size=160",
    // The young generation would otherwise take 16 MB that a daemon of few allocations never needs.
    "--max-semi-space-size=1",
    program,
  ];
}

function runAgent(parts: Parts, user: User, program: string, signal: AbortSignal): Promise<number> {
  return new Promise((resolve, reject) => {
    const [file = "", ...args] = agentCommand(user, process.execPath, program);
    const child = spawn(file, args, { stdio: ["ignore", "inherit", "inherit"], cwd: "/", env: agentEnv(parts) });
    const stop = (): void => void child.kill("SIGTERM");
    signal.addEventListener("abort", stop, { once: true });
    child.on("error", (cause) =>
      reject(new Failure("agent-not-started", "cannot run setpriv", { cause, advice: "apt install util-linux" })),
    );
    child.on("exit", (code) => {
      signal.removeEventListener("abort", stop);
      resolve(code ?? 1);
    });
  });
}

/** Puts the machine's routing back, as root, whatever the agent left. */
export async function cleanUp(parts: Parts, program: string): Promise<void> {
  const why = await parts.exec
    .run([process.execPath, program, "clean"], { env: agentEnv(parts), timeoutMs: 20_000 })
    .then(({ exitCode, stderr }) => (exitCode === 0 ? undefined : stderr.trim()))
    .catch((error: unknown) => asFailure(error).message);
  if (why !== undefined) parts.say(`the machine's routing was not restored whole: ${why}`);
}

function agentEnv({ env, paths }: Parts): Record<string, string> {
  return {
    PATH: env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    // One heap for all threads, given back when it shrinks: 13 MB less resident.
    MALLOC_ARENA_MAX: "1",
    MALLOC_TRIM_THRESHOLD_: "65536",
    MALLOC_MMAP_THRESHOLD_: "65536",
    EXITNODE_ETC: paths.etc,
    EXITNODE_VAR: paths.var,
    EXITNODE_RUN: paths.run,
    ...(env.EXITNODE_LOG === undefined ? {} : { EXITNODE_LOG: env.EXITNODE_LOG }),
  };
}
