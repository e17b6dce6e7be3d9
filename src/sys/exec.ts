import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";

export type Ran = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };
export type ExecOptions = {
  readonly input?: string | Uint8Array;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: Millis;
  readonly env?: Readonly<Record<string, string>>;
};

/** Runs programs. Two implementations pass one contract suite: this machine, and a machine over SSH. */
export interface Exec {
  /** Runs argv without a shell. A non-zero exit is a result; not starting, a signal or the deadline is a Failure. */
  run(argv: readonly string[], options?: ExecOptions): Promise<Ran>;
}

export const EXEC_TIMEOUT_MS: Millis = 60_000;
/** Output beyond this ends the command: nothing we run has more to say. */
export const EXEC_OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

export const localExec: Exec = {
  async run(argv, options = {}) {
    // Loaded by the first program that is run: `exitnode --help` runs none.
    const { execa } = await import("execa");
    const [file = "", ...args] = argv;
    const result = await execa(file, args, {
      reject: false,
      stripFinalNewline: false,
      timeout: options.timeoutMs ?? EXEC_TIMEOUT_MS,
      maxBuffer: EXEC_OUTPUT_BYTES_MAX,
      ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    if (result.exitCode === undefined)
      throw new Failure("exec-failed", `cannot run ${file}: ${result.shortMessage ?? "it did not start"}`, {
        cause: result,
      });
    return { exitCode: result.exitCode, stdout: result.stdout ?? "", stderr: result.stderr ?? "" };
  },
};

/** Runs and expects success: the stdout, or a Failure that quotes the end of stderr. */
export async function mustRun(exec: Exec, argv: readonly string[], options?: ExecOptions): Promise<string> {
  const ran = await exec.run(argv, options);
  if (ran.exitCode === 0) return ran.stdout;
  const said = (ran.stderr.trim() || ran.stdout.trim()).slice(-2_000);
  throw new Failure("command-failed", `${argv.join(" ").slice(0, 300)} exited ${ran.exitCode}: ${said}`);
}
