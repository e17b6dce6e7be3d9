import { existsSync, readlinkSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import Handlebars from "handlebars";
import { mustRun } from "../sys/exec.js";
import { AGENT_USER } from "./agentfiles.js";
import type { Parts } from "./command.js";

/** The agent of a person's machine as a systemd unit. */
const UNIT = "exitnode-device.service";
const UNIT_PATH = `/etc/systemd/system/${UNIT}`;

/** True when systemd runs this very network namespace: in another one its units would act on the wrong machine. */
export function runsSystemd(): boolean {
  if (!existsSync("/run/systemd/system")) return false;
  try {
    return readlinkSync("/proc/self/ns/net") === readlinkSync("/proc/1/ns/net");
  } catch {
    return false;
  }
}

export async function startUnit(parts: Parts, program: string): Promise<void> {
  const source = await readFile(join(parts.paths.package, "templates", `${UNIT}.hbs`), "utf8");
  const unit = Handlebars.compile(source, { noEscape: true, strict: true })({
    node: process.execPath,
    program,
    user: AGENT_USER,
    ...parts.paths,
  });
  await mkdir(parts.paths.run, { recursive: true });
  await parts.files.write(UNIT_PATH, unit);
  await mustRun(parts.exec, ["systemctl", "daemon-reload"]);
  await mustRun(parts.exec, ["systemctl", "enable", "--now", UNIT]);
}

export async function stopUnit(parts: Parts): Promise<void> {
  if (!existsSync(UNIT_PATH)) return;
  await mustRun(parts.exec, ["systemctl", "disable", "--now", UNIT]);
  await parts.files.remove(UNIT_PATH);
  await mustRun(parts.exec, ["systemctl", "daemon-reload"]);
}
