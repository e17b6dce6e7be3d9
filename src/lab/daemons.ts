import { assert } from "../kit/assert.js";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Exec } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import { namespaceOf } from "./internet.js";
import { NETNS_DIR, RUN_DIR, TOOL_PATH } from "./places.js";

/**
 * The lab's daemons: started apart from the command that starts them, known again by a record, and stopped only when
 * the process of that number is still the one that was started.
 */
export type Daemon = {
  readonly name: string;
  readonly place: string;
  readonly argv: readonly string[];
  /** Ready once it listens here. */
  readonly listens: { readonly protocol: "udp" | "tcp"; readonly port: number };
};

/** A process number alone may be somebody else's by now; with the tick it was started at, it is one process. */
export type ProcessId = { readonly pid: number; readonly startTicks: string };

export type DaemonParts = { readonly exec: Exec; readonly files: Files; readonly clock: Clock };

/** A Node daemon is up in 0.3 s on two idle cores; this is for a machine with other things to do. */
const READY_WITHIN_MS: Millis = 20_000;
const POLL_MS: Millis = 15;
/** How long a process may take to end by itself before it is killed. */
const STOP_WITHIN_MS: Millis = 3_000;
const KILLED_WITHIN_MS: Millis = 5_000;
const LOG_TAIL_CHARACTERS = 600;

const recordPath = (name: string): string => `${RUN_DIR}/${name}.process`;
export const logPath = (name: string): string => `${RUN_DIR}/${name}.log`;

// The process writes its own record before it becomes the daemon: whoever started it may be killed at any moment, and
// there is never a daemon without a record. It leaves the caller's folder and terminal behind.
const LAUNCH = [
  "cd /",
  'record="$1" log="$2"',
  "shift 2",
  "read -r stat < /proc/$$/stat",
  'echo "$stat" > "$record"',
  'exec "$@" < /dev/null >> "$log" 2>&1',
].join("; ");

/**
 * Starts the daemon unless it runs. nsenter and not `ip netns exec`, which gives a process a copy of all mounts and a
 * /sys without cgroups: the Proxmox server needs the machine's.
 */
export async function startDaemon(parts: DaemonParts, daemon: Daemon): Promise<"started" | "running"> {
  if ((await findDaemon(parts.files, daemon.name)) !== undefined) return "running";
  const net = `--net=${NETNS_DIR}/${namespaceOf(daemon.place)}`;
  await parts.files.write(logPath(daemon.name), "");
  const shell = ["sh", "-c", LAUNCH, "sh", recordPath(daemon.name), logPath(daemon.name)];
  const ran = await parts.exec.run(["nsenter", net, "setsid", "--fork", ...shell, ...daemon.argv], {
    env: { PATH: TOOL_PATH },
  });
  if (ran.exitCode !== 0) throw notStarted(daemon, ran.stderr.trim());
  await untilReady(parts, daemon);
  return "started";
}

async function untilReady({ files, clock }: DaemonParts, daemon: Daemon): Promise<void> {
  const deadline = clock.now() + READY_WITHIN_MS;
  const since = clock.now();
  for (;;) {
    const process = await findDaemon(files, daemon.name);
    if (process !== undefined && (await listens(files, process, daemon.listens))) return;
    // The launching shell needs a moment for its record, so absence counts only after one.
    const gone = process === undefined && clock.now() - since > 1_000;
    if (gone || clock.now() > deadline) {
      const log = ((await files.readText(logPath(daemon.name))) ?? "").trim().slice(-LOG_TAIL_CHARACTERS);
      throw notStarted(daemon, gone ? `it ended: ${log}` : `not listening after ${READY_WITHIN_MS} ms: ${log}`);
    }
    await clock.sleep(POLL_MS);
  }
}

function notStarted(daemon: Daemon, why: string): Failure {
  return new Failure("lab-daemon", `${daemon.name} did not start in ${daemon.place}: ${why}`, {
    advice: "exitnode lab down && exitnode lab up",
  });
}

/** The daemon's process, or undefined when it does not run (any more). */
export async function findDaemon(files: Files, name: string): Promise<ProcessId | undefined> {
  const record = parseStat((await files.readText(recordPath(name))) ?? "");
  return record !== undefined && (await isAlive(files, record)) ? record : undefined;
}

export async function stopDaemon(parts: DaemonParts, name: string): Promise<void> {
  const process = await findDaemon(parts.files, name);
  if (process !== undefined) await stopProcesses(parts, async () => [process]);
  await parts.files.remove(recordPath(name));
}

/** Ends every process that `find` names, now and while they end: first by asking, then by force. */
export async function stopProcesses(parts: DaemonParts, find: () => Promise<readonly ProcessId[]>): Promise<void> {
  for (const { signal, withinMs } of [
    { signal: "TERM", withinMs: STOP_WITHIN_MS },
    { signal: "KILL", withinMs: KILLED_WITHIN_MS },
  ]) {
    const deadline = parts.clock.now() + withinMs;
    const asked = new Set<number>();
    for (;;) {
      const left = await alive(parts.files, await find());
      if (left.length === 0) return;
      const fresh = left.filter(({ pid }) => !asked.has(pid)).map(({ pid }) => pid);
      for (const pid of fresh) asked.add(pid);
      if (fresh.length > 0) await kill(parts.exec, signal, fresh);
      if (parts.clock.now() > deadline) break;
      await parts.clock.sleep(POLL_MS);
    }
  }
  const left = await alive(parts.files, await find());
  if (left.length > 0)
    throw new Failure("lab-process-stuck", `processes ${left.map(({ pid }) => pid).join(", ")} do not end`, {
      advice: `ps -p ${left.map(({ pid }) => pid).join(",")}    (then: exitnode lab down)`,
    });
}

async function kill(exec: Exec, signal: string, pids: readonly number[]): Promise<void> {
  assert(
    pids.every((pid) => pid > 1),
    "only single processes are signalled",
  );
  await exec.run(["sh", "-c", `kill -s ${signal} "$@" 2>/dev/null; true`, "sh", ...pids.map(String)]);
}

async function alive(files: Files, processes: readonly ProcessId[]): Promise<ProcessId[]> {
  const states = await Promise.all(processes.map((process) => isAlive(files, process)));
  return processes.filter((_, i) => states[i]);
}

async function isAlive(files: Files, { pid, startTicks }: ProcessId): Promise<boolean> {
  return (await readProcess(files, pid))?.startTicks === startTicks;
}

/** Undefined when there is none, or only its remains that nobody has waited for yet. */
export async function readProcess(files: Files, pid: number): Promise<ProcessId | undefined> {
  // A process that ends during the read gives ESRCH, which is the same answer.
  return parseStat((await files.readText(`/proc/${pid}/stat`).catch(() => undefined)) ?? "");
}

/** proc(5): "pid (name) state …", the name may hold anything, the start time is field 22. */
export function parseStat(text: string): ProcessId | undefined {
  const match = /^(\d+) \(.*\) (\S) (.*)$/s.exec(text.trim());
  const startTicks = match?.[3]?.split(" ")[18];
  if (match === null || startTicks === undefined || match[2] === "Z" || match[2] === "X") return undefined;
  return { pid: Number(match[1]), startTicks };
}

async function listens(files: Files, { pid }: ProcessId, { protocol, port }: Daemon["listens"]): Promise<boolean> {
  const tables = await Promise.all(
    ["", "6"].map((six) => files.readText(`/proc/${pid}/net/${protocol}${six}`).catch(() => "")),
  );
  return tables.some((table) => hasListener(table ?? "", protocol, port));
}

/** A line of /proc/net/tcp: "sl local:PORT remote:PORT state …" in hex; 0A is LISTEN, a bound UDP socket is 07. */
export function hasListener(table: string, protocol: "udp" | "tcp", port: number): boolean {
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  return table.split("\n").some((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return local?.endsWith(`:${wanted}`) === true && state === (protocol === "tcp" ? "0A" : "07");
  });
}
