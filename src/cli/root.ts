import { Failure } from "../kit/failure.js";

/** Refuses before anything is changed when this command cannot do its work without root. */
export function requireRoot(command: string): void {
  if (process.getuid?.() !== 0)
    throw new Failure("not-root", "changing this machine's routes needs root", { advice: `sudo exitnode ${command}` });
}
