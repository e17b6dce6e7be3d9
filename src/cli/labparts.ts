import { Failure } from "../kit/failure.js";
import type { LabParts } from "../lab/lab.js";
import { requireLinuxRoot } from "../lab/preflight.js";
import { tryLock } from "../sys/lock.js";
import type { Call } from "./command.js";

/** What the lab commands share: the parts they need of the world, and that only one changes the lab at a time. */
export function labParts({ parts }: Call): LabParts {
  return {
    exec: parts.exec,
    files: parts.files,
    clock: parts.clock,
    program: thisProgram(),
    say: parts.say,
  };
}

/** Node and our entry file, as the kernel wants them. */
export function thisProgram(): string[] {
  return [process.execPath, ...process.execArgv, process.argv[1] ?? ""];
}

/** Fails unless this is root on Linux, outside the lab itself. */
export function requireMachine(call: Call, command: string): void {
  requireLinuxRoot({ platform: process.platform, uid: process.getuid?.() }, command);
  // A place sees other interfaces than the machine does: asked there, the lab would seem damaged.
  const place = call.parts.env.EXITNODE_LAB_PLACE;
  if (place !== undefined)
    throw new Failure("lab-inside", `this is ${place}, a place of the lab, and the lab is run from outside`, {
      advice: `leave the shell of \`lab exec ${place}\` and repeat the command`,
    });
}

/** Runs `change` while no other process changes the lab. */
export async function withLabLock<T>(change: () => Promise<T>): Promise<T> {
  const free = await tryLock("exitnode-lab");
  if (free === undefined)
    throw new Failure("lab-busy", "another `exitnode lab up` or `lab down` is under way on this machine", {
      advice: "wait until it has ended, then repeat the command",
    });
  try {
    return await change();
  } finally {
    await free();
  }
}
