import { stat } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Exec } from "../sys/exec.js";
import type { Ssh } from "../sys/ssh.js";
import { COORDINATOR_FILES } from "../wire/coordinatorconfig.js";
import { parseWith } from "../wire/schema.js";
import { packBackup, putBackup, takeBackup, unpackBackup } from "./backupstore.js";
import type { Call, Outcome } from "./command.js";
import { coordinatorPlaces, type DaemonPlaces } from "./coordinatordaemon.js";
import { loginToMachine } from "./machinelogin.js";

/** The coordinator's store and keys as one file, from and to where it runs: this machine, or one behind --ssh. */

const UNIT = "exitnode-coordinator.service";
const USER = "exitnode-coordinator";
/** Ten thousand devices are a few seconds of work, and megabytes over a slow line. */
const WORK_TIMEOUT_MS: Millis = 10 * MINUTE;

const facts = z.object({ takenAtMs: z.number(), devices: z.number() });
export type BackupFacts = z.infer<typeof facts>;

export async function backup(call: Call): Promise<Outcome> {
  const { args, options, parts } = call;
  const now = parts.clock.wall();
  const path = args[0] ?? `exitnode-backup-${new Date(now).toISOString().slice(0, 10)}.db`;
  if ((await parts.files.read(path)) !== undefined)
    throw new Failure("file-exists", `${path} is there already, and a backup replaces nothing`, {
      advice: `exitnode coordinator backup <another file>`,
    });
  const taken =
    options.ssh === undefined
      ? await here(call, {
          own: (places) => takeBackup(places, now),
          service: (exec) => backupOver(exec, call.signal),
        })
      : await withMachine(call, "--ssh", ({ ssh }) => backupOver(ssh, call.signal));
  await parts.files.write(path, taken.bytes, { mode: 0o600 });
  const { devices, takenAtMs } = taken;
  return {
    value: { path, devices, takenAtMs, bytes: taken.bytes.length },
    text: `${path} holds the network of ${devices} devices, and the coordinator's keys: keep it where nobody else reads it\nnext: exitnode coordinator restore ${path} --ssh root@<machine>    (when you need it)`,
  };
}

export async function restore(call: Call): Promise<Outcome> {
  const { args, options, parts, signal } = call;
  const [path = ""] = args;
  const bytes = await parts.files.read(path);
  if (bytes === undefined)
    throw new Failure("file-missing", `there is no ${path}`, { advice: `exitnode coordinator backup ${path}` });
  const where = options.ssh === undefined ? "this machine" : String(options.ssh);
  const confirm = async (question: string) =>
    (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question);
  if (options.yes !== true && !(parts.interactive && (await confirm(`replace the coordinator on ${where}?`))))
    throw new Failure("confirmation-needed", `this replaces the store and keys of the coordinator on ${where}`, {
      advice: `exitnode coordinator restore ${path} --yes`,
    });
  const restored =
    options.ssh === undefined
      ? await here(call, {
          own: (places) => putBackup(places, bytes, parts.clock.wall()),
          service: (exec) => restoreOver(exec, bytes, signal),
        })
      : await withMachine(call, "--ssh", ({ ssh }) => restoreOver(ssh, bytes, signal));
  const taken = new Date(restored.takenAtMs).toISOString().replace("T", " ").slice(0, 16);
  return {
    value: { restored: path, where, ...restored },
    text: `the coordinator on ${where} is as it was at ${taken} UTC, with ${restored.devices} devices\nwhat was changed after that is undone: revoke again whom you revoked since, and let in again who joined since`,
  };
}

/** Works on this machine's coordinator: one's own, or the service, whose files none but its user may write. */
async function here<T>(
  { parts }: Call,
  work: { own(places: DaemonPlaces): Promise<T>; service(exec: Exec): Promise<T> },
): Promise<T> {
  const places = coordinatorPlaces(parts.env);
  if ((await parts.files.readText(join(places.etc, COORDINATOR_FILES.config))) === undefined)
    throw new Failure("coordinator-elsewhere", "no coordinator is set up on this machine", {
      advice: "name the machine it is on: --ssh root@<machine>",
    });
  const owner = await stat(places.var).then(
    ({ uid }) => uid,
    () => undefined,
  );
  const isMine = owner === undefined || owner === process.getuid?.();
  return isMine ? work.own(places) : work.service(parts.exec);
}

export async function withMachine<T>(
  call: Call,
  option: "--ssh" | "--to",
  work: (machine: { readonly ssh: Ssh; readonly where: string; readonly host: string }) => Promise<T>,
): Promise<T> {
  const target =
    option === "--to"
      ? { ...call, options: { ...call.options, ssh: call.options.to, hostKey: call.options.toHostKey } }
      : call;
  const machine = await loginToMachine(target, option);
  try {
    return await work(machine);
  } finally {
    machine.ssh.close();
  }
}

export async function backupOver(
  exec: Exec,
  signal: AbortSignal,
): Promise<BackupFacts & { readonly bytes: Uint8Array }> {
  const answer = await program(exec, "backup", signal);
  const { backup, ...rest } = parseWith(facts.extend({ backup: z.string() }), answer, "the machine's backup");
  return { ...rest, bytes: unpackBackup(backup) };
}

/** Stops the coordinator, restores, and starts it again, also when the backup was refused. */
export async function restoreOver(exec: Exec, bytes: Uint8Array, signal: AbortSignal): Promise<BackupFacts> {
  await service(exec, "stop", signal);
  try {
    return parseWith(facts, await program(exec, "restore", signal, packBackup(bytes)), "the machine's answer");
  } finally {
    await service(exec, "start", signal);
  }
}

export async function service(
  exec: Exec,
  verb: "stop" | "start" | "enable" | "disable",
  signal: AbortSignal,
): Promise<void> {
  const ran = await exec.run(["systemctl", verb, UNIT], { timeoutMs: MINUTE, signal });
  if (ran.exitCode !== 0)
    throw new Failure("service-failed", `systemctl ${verb} ${UNIT} failed: ${ran.stderr.trim().slice(-300)}`, {
      advice: `journalctl -u ${UNIT} -n 50    (there)`,
    });
}

/** As the coordinator's own user, so that every file stays its. */
async function program(exec: Exec, word: "backup" | "restore", signal: AbortSignal, input?: string): Promise<unknown> {
  const ran = await exec.run(["runuser", "-u", USER, "--", "node", "/opt/exitnode/coordinator.js", word], {
    timeoutMs: WORK_TIMEOUT_MS,
    signal,
    env: {
      EXITNODE_ETC: "/etc/exitnode",
      EXITNODE_VAR: "/var/lib/exitnode-coordinator",
      EXITNODE_RUN: "/run/exitnode-coordinator",
    },
    ...(input === undefined ? {} : { input }),
  });
  const answer = tryJson(ran.stdout);
  if (ran.exitCode === 0) return answer;
  const refused = z.object({
    error: z.object({ code: z.string(), message: z.string(), advice: z.string().optional() }),
  });
  const { data } = refused.safeParse(answer);
  if (data !== undefined) throw new Failure(data.error.code, data.error.message, { advice: data.error.advice });
  throw new Failure(
    "coordinator-missing",
    `there is no coordinator that can ${word}: ${ran.stderr.trim().slice(-300)}`,
    {
      advice: "exitnode coordinator up --ssh root@<machine>    (brings it there, or up to date)",
    },
  );
}
