import { createHash } from "node:crypto";
import { Failure } from "../kit/failure.js";
import { withHosts } from "../lab/hosts.js";
import { observeLab, readSituation } from "../lab/lab.js";
import { findPlace, insidePlace, RUN_DIR, renderWrapper, TOOL_PATH } from "../lab/places.js";
import { topology } from "../lab/topology.js";
import { insideVps, observeVps } from "../lab/vps.js";
import { runOnTerminal } from "../sys/terminal.js";
import type { Call, Outcome } from "./command.js";
import { requireMachine, thisProgram } from "./labparts.js";

/** Runs a command in a place on this terminal and ends as it ends. */
export async function labExec(call: Call): Promise<Outcome> {
  const { files, env } = call.parts;
  requireMachine(call, "lab exec");
  const [name = "", ...rest] = call.args;
  const situation = await readSituation(files);
  const place = findPlace(withHosts(topology, situation.hosts), name);
  const state = await observeLab(files, topology);
  if (state !== "up") throw new Failure("lab-absent", `the lab is ${state}, not up`, { advice: "exitnode lab up" });
  const command = rest[0] === "--" ? rest.slice(1) : rest;
  if (place.name === "vps" && situation.vps) {
    if (!observeVps().running)
      throw new Failure("lab-vps", "the vps is not running", { advice: "exitnode lab up --vps yes" });
    return { value: {}, text: "", exitCode: await runOnTerminal(insideVps(command), { PATH: TOOL_PATH }) };
  }
  const inside = insidePlace(place, command, await writeWrapper(call), env);
  return { value: {}, text: "", exitCode: await runOnTerminal(inside.argv, inside.env) };
}

/** A folder per program, so that two versions of it in one lab do not overwrite each other's. */
async function writeWrapper({ parts: { files } }: Call): Promise<string> {
  const text = renderWrapper(thisProgram());
  const folder = `${RUN_DIR}/bin-${createHash("sha256").update(text).digest("hex").slice(0, 12)}`;
  const path = `${folder}/exitnode`;
  if ((await files.readText(path)) !== text) await files.write(path, text, { mode: 0o755 });
  return folder;
}
