import { spawn } from "node:child_process";
import { constants } from "node:os";
import { Failure } from "../kit/failure.js";

/** Runs argv on our own stdin, stdout and stderr; its exit code, or 128 and the number of the signal that ended it. */
export function runOnTerminal(argv: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const [file = "", ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: "inherit", env: { ...process.env, ...env } });
    // Ctrl-C reaches the child from the terminal; a signal for us alone would leave it behind.
    const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
    process.on("SIGTERM", pass).on("SIGHUP", pass);
    const finish = (act: () => void): void => {
      process.off("SIGTERM", pass).off("SIGHUP", pass);
      act();
    };
    child.on("error", (cause) =>
      finish(() => reject(new Failure("exec-failed", `cannot run ${file}: ${cause.message}`, { cause }))),
    );
    child.on("exit", (code, signal) => finish(() => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0))));
  });
}
