import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Exec } from "../sys/exec.js";
import { parseWith } from "../wire/schema.js";
import { packBackup, putBackup, takeBackup, unpackBackup } from "./backupstore.js";
import type { Call, Outcome } from "./command.js";
import { coordinatorPlace } from "./coordinatorplace.js";

/** The coordinator's store and keys as one file, from and to where it runs. */

const UNIT = "exitnode-coordinator.service";
const USER = "exitnode-coordinator";
/** Ten thousand devices are a few seconds of work, and megabytes over a slow line. */
const WORK_TIMEOUT_MS: Millis = 10 * MINUTE;

const facts = z.object({ takenAtMs: z.number(), devices: z.number() });
export type BackupFacts = z.infer<typeof facts>;

export async function backup(call: Call): Promise<Outcome> {
  const { args, parts } = call;
  const now = parts.clock.wall();
  const path = args[0] ?? `exitnode-backup-${new Date(now).toISOString().slice(0, 10)}.db`;
  if ((await parts.files.read(path)) !== undefined)
    throw new Failure("file-exists", `${path} is there already, and a backup replaces nothing`, {
      advice: `exitnode coordinator backup <another file>`,
    });
  const place = await coordinatorPlace(call);
  const taken = await place.run({
    own: (places) => takeBackup(places, now),
    service: (exec) => backupOver(exec, call.signal),
  });
  await parts.files.write(path, taken.bytes, { mode: 0o600 });
  const { devices, takenAtMs } = taken;
  return {
    value: { path, devices, takenAtMs, bytes: taken.bytes.length },
    text: `${path} holds the network of ${devices} devices, and the coordinator's keys: keep it where nobody else reads it\nwhen you need it: exitnode coordinator restore ${path}`,
  };
}

export async function restore(call: Call): Promise<Outcome> {
  const { args, options, parts, signal } = call;
  const [path = ""] = args;
  const bytes = await parts.files.read(path);
  if (bytes === undefined)
    throw new Failure("file-missing", `there is no ${path}`, { advice: `exitnode coordinator backup ${path}` });
  if (!isBackup(bytes))
    throw new Failure("backup-invalid", `${path} is no backup of a coordinator`, {
      advice: "exitnode coordinator backup network.db    (makes one)",
    });
  const { where, run } = await coordinatorPlace(call);
  const confirm = async (question: string) =>
    (await import("../sys/prompt.js")).terminalPrompt(signal).confirm(question);
  if (options.yes !== true && !(parts.interactive && (await confirm(`replace the coordinator ${where}?`))))
    throw new Failure("confirmation-needed", `this replaces the store and keys of the coordinator ${where}`, {
      advice: `exitnode coordinator restore ${path}${typeof options.ssh === "string" ? ` --ssh ${options.ssh}` : ""} --yes`,
    });
  const restored = await run({
    own: (places) => putBackup(places, bytes, parts.clock.wall()),
    service: (exec) => restoreOver(exec, bytes, signal),
  });
  const taken = new Date(restored.takenAtMs).toISOString().replace("T", " ").slice(0, 16);
  return {
    value: { restored: path, where, ...restored },
    text: `the coordinator ${where} is as it was at ${taken} UTC, with ${restored.devices} devices\nwhat was changed after that is undone: revoke again whom you revoked since, and let in again who joined since`,
  };
}

/** SQLite's first bytes: what is something else is told before anybody is asked whether to replace the coordinator. */
const isBackup = (bytes: Uint8Array): boolean => new TextDecoder().decode(bytes.subarray(0, 15)) === "SQLite format 3";

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
