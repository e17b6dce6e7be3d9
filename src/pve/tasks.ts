import { Failure } from "../kit/failure.js";
import { MINUTE, type Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Engine } from "./engine.js";
import { LOG_TAIL_LINES, taskFailure } from "./errors.js";
import type { TaskResult, WaitOptions } from "./guests.js";
import { taskLogReply, taskStatusReply } from "./replies.js";
import { type Upid, upidParts } from "./upid.js";

/**
 * Waiting for a task. A call that answers 200 has only begun one: what happened stands in its exit status, "OK" and
 * "WARNINGS: n" when it went well, otherwise the error's own words.
 */
const TASK_DEADLINE_MS: Millis = 10 * MINUTE;
/** Polled at once, then ever more seldom: most tasks end within a second, an unpacking takes half a minute. */
const POLL_FIRST_MS: Millis = 200;
const POLL_LONGEST_MS: Millis = 2_000;
/** "unexpected status" is also what is read between the fork and the task's first line; so it is asked again. */
export const UNEXPECTED_POLLS_MAX = 6;
/** Lines per request, and lines kept of one task: the oldest are dropped. */
const LOG_PAGE_LINES = 500;
const LOG_LINES_MAX = 5_000;

export async function waitTask(
  engine: Engine,
  clock: Clock,
  upid: Upid,
  options: WaitOptions = {},
): Promise<TaskResult> {
  const { node, type } = upidParts(upid);
  const deadlineMs = options.deadlineMs ?? TASK_DEADLINE_MS;
  const startedAt = clock.now();
  const log = openLog(engine, upid);
  let unexpected = 0;
  for (let pause = POLL_FIRST_MS; ; pause = Math.min(pause * 1.5, POLL_LONGEST_MS)) {
    if (options.signal?.aborted) throw await cancelled(engine, upid, options.abortTask === true);
    const { status, exitstatus } = taskStatusReply(await engine.call("GET", ["nodes", node, "tasks", upid, "status"]));
    const pending =
      status !== "stopped" || (exitstatus === "unexpected status" && ++unexpected <= UNEXPECTED_POLLS_MAX);
    if (options.onLog !== undefined || !pending) await log.readOn(options.onLog);
    if (!pending) return resultOf(type, exitstatus, log.lines);
    if (clock.now() - startedAt >= deadlineMs)
      throw new Failure("task-deadline", `task ${type} on ${node} still runs after ${deadlineMs / 1_000} s`, {
        advice: "look at its log in the Proxmox GUI; when it has ended, run the command again",
      });
    await clock.sleep(pause, options.signal).catch((error: unknown) => {
      // The loop's head says what an aborted wait means.
      if (!options.signal?.aborted) throw error;
    });
  }
}

export async function taskLog(engine: Engine, upid: Upid): Promise<string[]> {
  const log = openLog(engine, upid);
  await log.readOn(undefined);
  return [...log.lines];
}

function resultOf(type: string, exitStatus: string, lines: readonly string[]): TaskResult {
  const warnings = /^WARNINGS: (\d+)$/.exec(exitStatus)?.[1];
  if (exitStatus === "OK" || warnings !== undefined) return { warnings: Number(warnings ?? 0), log: lines };
  throw taskFailure(type, exitStatus, lines.slice(-LOG_TAIL_LINES));
}

async function cancelled(engine: Engine, upid: Upid, abortTask: boolean): Promise<Failure> {
  const { node, type } = upidParts(upid);
  if (abortTask) await engine.call("DELETE", ["nodes", node, "tasks", upid]);
  const left = abortTask ? "the host was asked to end it and cleans up" : "it goes on on the host";
  return new Failure("task-abandoned", `no longer waiting for task ${type} on ${node}: ${left}`, {
    advice: "run the command again: it looks at what is there and goes on",
  });
}

function openLog(engine: Engine, upid: Upid) {
  const lines: string[] = [];
  let seen = 0;
  return {
    lines,
    async readOn(onLine: ((line: string) => void) | undefined): Promise<void> {
      for (;;) {
        const path = ["nodes", upidParts(upid).node, "tasks", upid, "log"];
        const page = taskLogReply(await engine.call("GET", path, { start: seen, limit: LOG_PAGE_LINES }));
        // A task without a log yet has the one line "no content".
        const fresh = page.filter(({ n, t }) => n > seen && !(seen === 0 && page.length === 1 && t === "no content"));
        for (const { t } of fresh) {
          lines.push(t);
          onLine?.(t);
        }
        seen = fresh.at(-1)?.n ?? seen;
        if (lines.length > LOG_LINES_MAX) lines.splice(0, lines.length - LOG_LINES_MAX);
        if (fresh.length < LOG_PAGE_LINES) return;
      }
    },
  };
}
