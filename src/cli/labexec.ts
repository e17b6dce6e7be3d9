import { createHash } from "node:crypto";
import { Failure } from "../kit/failure.js";
import { observeNetwork } from "../lab/network.js";
import { findPlace, insidePlace, RUN_DIR, renderWrapper } from "../lab/places.js";
import { topology } from "../lab/topology.js";
import { runOnTerminal } from "../sys/terminal.js";
import type { Call, Outcome } from "./command.js";
import { requireMachine, thisProgram } from "./labparts.js";

/** Runs a command in a place on this terminal and ends as it ends. */
export async function labExec(call: Call): Promise<Outcome> {
  const { files, env } = call.parts;
  requireMachine(call, "lab exec");
  const [name = "", ...rest] = call.args;
  const place = findPlace(topology, name);
  const state = await observeNetwork(files, topology);
  if (state !== "up") throw new Failure("lab-absent", `the lab is ${state}, not up`, { advice: "exitnode lab up" });
  const inside = insidePlace(place, rest[0] === "--" ? rest.slice(1) : rest, await writeWrapper(call), env);
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
