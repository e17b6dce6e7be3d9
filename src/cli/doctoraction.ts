import { join } from "node:path";
import { asFailure, Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { within } from "../provision/doctor/deadline.js";
import { type Finding, stops } from "../provision/preflight/finding.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { describeReport, type Report, troubleIn } from "./doctorreport.js";
import { givenHosts } from "./everyhost.js";

/** Every probe has an end of its own; this is the end of all of them. */
export const DOCTOR_WITHIN_MS: Millis = 19 * SECOND;

/** Looks everywhere at once. What is found is no failure of this command: the exit code says whether something stops. */
export async function doctor(call: Call): Promise<Outcome> {
  const { files, paths } = call.parts;
  const given = givenHosts(call);
  const config = await readConfig(files, paths.config);
  const hosts = given.length > 0 ? given : Object.keys(config.hosts);
  const all = given.length === 0;
  const device = all && (await isDevice(call));
  const looks: Promise<Report>[] = [
    ...(device
      ? [report(call, "this machine", async (one) => (await import("./doctordevice.js")).lookAtDevice(one))]
      : []),
    ...(all && config.coordinator !== undefined
      ? [report(call, "coordinator", async (one) => (await import("./doctorcoordinator.js")).lookAtCoordinator(one))]
      : []),
    ...hosts.map((host) => report(call, host, async (one) => (await import("./doctorhost.js")).lookAtHost(one, host))),
  ];
  if (looks.length === 0)
    throw new Failure("nothing-to-examine", "no agent runs on this machine, and no host is known", {
      advice: "exitnode up --join KEY    (join a network)\nexitnode setup            (make an exit node)",
    });
  const reports = await Promise.all(looks);
  const trouble = reports.flatMap(troubleIn);
  return {
    value: trouble,
    text: describeReport(reports),
    ...(trouble.some(({ severity }) => severity === "stops") ? { exitCode: 1 } : {}),
  };
}

/** It joined a network once, or its agent runs. */
async function isDevice({ parts: { files, paths } }: Call): Promise<boolean> {
  if ((await files.readText(join(paths.etc, DEVICE_FILES.config)).catch(() => "unreadable")) !== undefined) return true;
  const { tryAgentStatus } = await import("./agentclient.js");
  return tryAgentStatus(paths).then(
    (status) => status !== undefined,
    () => true,
  );
}

/** A place that cannot be looked at at all is what is wrong with it. */
async function report(call: Call, about: string, look: (call: Call) => Promise<Finding[]>): Promise<Report> {
  const { clock } = call.parts;
  const looked = await within({ clock, signal: call.signal }, DOCTOR_WITHIN_MS, about, (signal) =>
    look({ ...call, signal }),
  );
  if ("value" in looked) return { about, findings: looked.value };
  const { code, message, advice } = asFailure(looked.failure);
  return { about, findings: [stops("reach", code, message, advice === undefined ? {} : { advice })] };
}
