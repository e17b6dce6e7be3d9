import { formatDuration } from "../kit/time.js";
import type { Progress } from "../provision/parts.js";
import type { Parts } from "./command.js";

/** Notes of a step that are shown on a line of their own, where no terminal redraws them. */
const NOTE_LENGTH_MAX = 120;

/** A spinner for each step on a terminal; elsewhere a line when it is done, with its time. Always on stderr. */
export async function stepProgress(parts: Parts): Promise<Progress> {
  return parts.interactive ? drawn() : lines(parts);
}

/** For one of several hosts whose steps come in between each other's: lines that say which. */
export const hostProgress = (parts: Parts, host: string): Progress =>
  lines({ clock: parts.clock, say: (line) => parts.say(`${host}: ${line}`) });

/** Shows nothing: for plans, which have no steps of their own. */
export const noProgress: Progress = { step: (_words, run) => run(() => {}) };

function lines({ say, clock }: Pick<Parts, "say" | "clock">): Progress {
  return {
    async step(words, run) {
      const startedAt = clock.now();
      let last = "";
      const outcome = await run((note) => {
        last = note.slice(0, NOTE_LENGTH_MAX);
      }).catch((error: unknown) => {
        say(`failed: ${words} (${formatDuration(clock.now() - startedAt)})${last === "" ? "" : `: ${last}`}`);
        throw error;
      });
      say(`done: ${words} (${formatDuration(clock.now() - startedAt)})`);
      return outcome;
    },
  };
}

async function drawn(): Promise<Progress> {
  const { Listr, ListrLogger, PRESET_TIMER, ProcessOutput } = await import("listr2");
  return {
    async step(words, run) {
      type Context = { outcome?: { value: Awaited<ReturnType<typeof run>> } };
      const list = new Listr<Context>(
        [
          {
            title: words,
            task: async (context, task) => {
              context.outcome = {
                value: await run((note) => {
                  task.output = note.slice(0, NOTE_LENGTH_MAX);
                }),
              };
            },
          },
        ],
        {
          // The Failure is told once, at the end, by the caller.
          rendererOptions: {
            collapseErrors: false,
            showErrorMessage: false,
            timer: { ...PRESET_TIMER, field: formatDuration },
            logger: new ListrLogger({
              useIcons: false,
              processOutput: new ProcessOutput(process.stderr, process.stderr),
            }),
          },
          registerSignalListeners: false,
        },
      );
      const { outcome } = await list.run({});
      if (outcome === undefined) throw new Error("a step ended without an outcome");
      return outcome.value;
    },
  };
}
