import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Millis, SECOND } from "../kit/time.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { askShutdown, tryAgentStatus } from "./agentclient.js";
import { programFolder, readAgentConfig } from "./agentfiles.js";
import type { Call, Outcome, Parts } from "./command.js";
import { requireRoot } from "./root.js";
import { cleanUp, PID_FILE } from "./supervise.js";
import { runsSystemd, stopUnit } from "./systemdunit.js";

const DOWN_TIMEOUT_MS: Millis = 10 * SECOND;
const POLL_MS: Millis = 50;

export async function down({ options, parts }: Call): Promise<Outcome> {
  requireRoot("down");
  const known = await readAgentConfig(parts).catch(() => undefined);
  // It may have been renamed since it joined, which the agent alone knows.
  const running = await tryAgentStatus(parts.paths).catch(() => undefined);
  const stopped = await stopAgent(parts);
  if (options.forget === true) {
    await parts.files.remove(join(parts.paths.etc, DEVICE_FILES.config));
    for (const name of [
      DEVICE_FILES.joinKey,
      DEVICE_FILES.map,
      DEVICE_FILES.choice,
      DEVICE_FILES.machineKey,
      DEVICE_FILES.wireguardKey,
      DEVICE_FILES.lockKey,
      DEVICE_FILES.lock,
    ])
      await parts.files.remove(join(parts.paths.var, name));
  }
  const name = running?.name ?? known?.name ?? "this device";
  const forgot = options.forget === true ? " and has forgotten its network" : "";
  return { value: { stopped, name }, text: stopped ? `${name} is down${forgot}` : `${name} was not up${forgot}` };
}

/** Stops the agent however it runs, and puts the routing back even after a crash; false when nothing ran. */
export async function stopAgent(parts: Parts): Promise<boolean> {
  const pidFile = join(parts.paths.run, PID_FILE);
  const pid = await supervisorPid(parts, pidFile);
  const asked = await askShutdown(parts.paths).catch(() => false);
  // No agent to ask: it crashed or hangs, and its supervisor waits to start it again.
  if (!asked && pid !== undefined) tell(pid, "SIGTERM");
  if (runsSystemd()) await stopUnit(parts);
  const deadline = parts.clock.now() + DOWN_TIMEOUT_MS;
  while (pid !== undefined && tell(pid, 0)) {
    if (parts.clock.now() > deadline) {
      tell(pid, "SIGTERM");
      break;
    }
    await parts.clock.sleep(POLL_MS);
  }
  const program = join(programFolder(parts.paths), "agent.js");
  if (existsSync(program) && existsSync(join(parts.paths.etc, DEVICE_FILES.config))) await cleanUp(parts, program);
  await parts.files.remove(pidFile);
  await parts.files.remove(join(parts.paths.run, DEVICE_FILES.socket));
  return asked || pid !== undefined;
}

/** The supervisor of the pid file, if that process is still one of ours and not a later one with its number. */
async function supervisorPid(parts: Parts, path: string): Promise<number | undefined> {
  const pid = Number((await parts.files.readText(path))?.trim());
  if (!Number.isInteger(pid) || pid <= 1) return undefined;
  const argv = (await parts.files.readText(`/proc/${pid}/cmdline`).catch(() => undefined))?.split("\0") ?? [];
  return argv.includes("agent") && argv.some((word) => /exitnode|main\.js/.test(word)) ? pid : undefined;
}

/** False when the process has ended; 0 only asks. */
function tell(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(pid, signal);
    return true;
  } catch {
    return false;
  }
}
