import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "./cli/command.js";
import { commands } from "./cli/commands.js";
import { pathsFrom } from "./cli/paths.js";
import { parseArgv, renderFailure, renderOutcome, Shown, withHelp } from "./cli/program.js";
import { asFailure } from "./kit/failure.js";
import { systemClock } from "./sys/clock.js";
import { localExec } from "./sys/exec.js";
import { localFiles } from "./sys/files.js";
import { systemRandom } from "./sys/random.js";
import { version } from "./version.js";

/** argv → command → exit code: the only place where the process is told to end. */
async function main(argv: readonly string[]): Promise<number> {
  let json = argv.includes("--json");
  let command: Command | undefined;
  try {
    const typed = parseArgv(commands, argv, version);
    const { call } = typed;
    command = typed.command;
    json = call.json;
    const outcome = await command.run({
      ...call,
      signal: interruptSignal(),
      parts: {
        env: process.env,
        paths: pathsFrom(process.env, packageRoot()),
        exec: localExec,
        files: localFiles,
        clock: systemClock,
        random: systemRandom,
        say: (line) => process.stderr.write(`${line}\n`),
        interactive: process.stdin.isTTY === true && process.stderr.isTTY === true && !json,
      },
    });
    await written(process.stdout, renderOutcome(outcome, json));
    return outcome.exitCode ?? 0;
  } catch (error) {
    if (error instanceof Shown) return 0;
    const failure = command === undefined ? asFailure(error) : withHelp(asFailure(error), command);
    if (failure.code === "internal" && process.env.EXITNODE_DEBUG) process.stderr.write(`${failure.stack}\n`);
    const { stdout, stderr } = renderFailure(failure, json);
    await written(process.stdout, stdout);
    await written(process.stderr, stderr);
    return failure.code === "usage" ? 2 : 1;
  }
}

/** The first Ctrl-C (or SIGTERM) asks; the second ends at once. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  const interrupt = (): void => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  return controller.signal;
}

/** dist/exitnode.js when bundled, build/src/main.js in development: both have templates/ in an ancestor. */
function packageRoot(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.endsWith(join("build", "src")) || /build[^/]*\/src$/.test(here) ? join(here, "../..") : join(here, "..");
}

function written(stream: NodeJS.WriteStream, text: string): Promise<void> {
  return new Promise((resolve) => stream.write(text, () => resolve()));
}

/** Whoever reads may have had enough (`exitnode audit | head`): nothing is wrong then. A full disk is. */
function outliveReaders(): void {
  process.stderr.on("error", () => {});
  process.stdout.on("error", ({ code }: NodeJS.ErrnoException) => {
    if (code !== "EPIPE") process.exit(1);
  });
}

outliveReaders();
process.exit(await main(process.argv.slice(2)));
