import assert from "node:assert/strict";
import { test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import type { Engine } from "../../src/pve/engine.js";
import { taskLog, UNEXPECTED_POLLS_MAX, waitTask } from "../../src/pve/tasks.js";
import { parseUpid, tryUpid, upidParts } from "../../src/pve/upid.js";
import { TestClock } from "./testclock.js";

const UPID = parseUpid("UPID:pve1:00001068:0004A0CC:6B02E98E:vzcreate:126:rm@pve!client:");

/** A host with one task that goes through the given states, one a poll; the log grows with it. */
class OneTask implements Engine {
  readonly calls: string[] = [];
  readonly states: { status: string; exitstatus?: string; log?: readonly string[] }[];
  #log: string[] = [];

  constructor(states: OneTask["states"]) {
    this.states = states;
  }
  async call(method: string, path: readonly (string | number)[], params?: Record<string, unknown>): Promise<unknown> {
    this.calls.push(`${method} ${path.at(-1)}`);
    assert.deepEqual(path.slice(0, 4), ["nodes", "pve1", "tasks", UPID]);
    if (path.at(-1) === "log") {
      const start = Number(params?.start);
      const page = this.#log.map((t, i) => ({ n: i + 1, t })).slice(start, start + Number(params?.limit));
      return this.#log.length === 0 ? [{ n: 1, t: "no content" }] : page;
    }
    const state = this.states.length > 1 ? this.states.shift() : this.states[0];
    this.#log.push(...(state?.log ?? []));
    return state;
  }
  doRequest(): Promise<unknown> {
    throw new Error("not asked for here");
  }
  send(): Promise<unknown> {
    throw new Error("not asked for here");
  }
  skewMs(): undefined {}
  close(): void {}
}

const ended = (exitstatus: string, log: readonly string[] = []) => ({ status: "stopped", exitstatus, log });
const running = (log: readonly string[] = []) => ({ status: "running", log });

test("a task that ends OK gives its whole log", async () => {
  const task = new OneTask([running(["one"]), running(), ended("OK", ["two", "TASK OK"])]);
  assert.deepEqual(await waitTask(task, new TestClock(), UPID), { warnings: 0, log: ["one", "two", "TASK OK"] });
});

test("a task that ends with warnings went well, and says how many", async () => {
  const task = new OneTask([ended("WARNINGS: 2", ["WARN: Systemd 257 detected. You may need to enable nesting."])]);
  assert.equal((await waitTask(task, new TestClock(), UPID)).warnings, 2);
});

test("a task that fails becomes a failure with its code and the end of its log", async () => {
  const words = "unable to create CT 126 - volume 'local:vztmpl/nope.tar.zst' does not exist";
  const task = new OneTask([running(), ended(words, ["mkfs", `TASK ERROR: ${words}`])]);
  await assert.rejects(waitTask(task, new TestClock(), UPID), (error: unknown) => {
    assert.ok(error instanceof Failure);
    assert.equal(error.code, "template-missing");
    assert.equal(error.message, `task vzcreate failed: ${words}\n    mkfs\n    TASK ERROR: ${words}`);
    return true;
  });
});

test("each line of the log is told once, in order, while the task runs", async () => {
  const told: string[] = [];
  const task = new OneTask([running(), running(["a", "b"]), running(["c"]), ended("OK", ["TASK OK"])]);
  await waitTask(task, new TestClock(), UPID, { onLog: (line) => told.push(line) });
  assert.deepEqual(told, ["a", "b", "c", "TASK OK"]);
});

test("a log of more than one page is read whole", async () => {
  const lines = Array.from({ length: 1_234 }, (_, i) => `line ${i}`);
  const task = new OneTask([ended("OK", lines)]);
  assert.equal((await waitTask(task, new TestClock(), UPID)).log.length, 1_234);
  assert.deepEqual(await taskLog(task, UPID), lines);
});

test("'unexpected status' right after the fork is asked again", async () => {
  const task = new OneTask([ended("unexpected status"), ended("unexpected status"), running(), ended("OK")]);
  assert.equal((await waitTask(task, new TestClock(), UPID)).warnings, 0);
});

test("a task that died without a last line fails after a bounded number of polls", async () => {
  const task = new OneTask([ended("unexpected status")]);
  await assert.rejects(waitTask(task, new TestClock(), UPID), { code: "task-failed" });
  assert.equal(task.calls.filter((call) => call === "GET status").length, UNEXPECTED_POLLS_MAX + 1);
});

test("a task that never ends is left at the deadline", async () => {
  const clock = new TestClock();
  await assert.rejects(waitTask(new OneTask([running()]), clock, UPID, { deadlineMs: 60_000 }), {
    code: "task-deadline",
  });
  assert.ok(clock.now() >= 60_000 && clock.now() < 63_000, `left after ${clock.now()} ms`);
});

for (const abortTask of [false, true]) {
  test(`an aborted wait ${abortTask ? "ends" : "leaves"} the task on the host`, async () => {
    const abort = new AbortController();
    const task = new OneTask([running(["x"]), running()]);
    const waiting = waitTask(task, new TestClock(), UPID, {
      signal: abort.signal,
      abortTask,
      onLog: () => abort.abort(),
    });
    await assert.rejects(waiting, { code: "task-abandoned" });
    assert.equal(task.calls.includes(`DELETE ${UPID}`), abortTask);
  });
}

test("a task id gives its parts, also with no id and with a long pstart", () => {
  const parts = {
    node: "pve1",
    pid: 0x1068,
    startedAtSeconds: 0x6b02e98e,
    type: "vzcreate",
    id: "126",
    user: "rm@pve!client",
  };
  assert.deepEqual(upidParts(UPID), parts);
  assert.equal(upidParts(parseUpid("UPID:pve-2:00001838:0004BF35A:6B02E9DC:imgcopy::root@pam:")).id, "");
});

for (const text of [
  "",
  "UPID:foo",
  "UPID:pve1:1068:0004A0CC:6B02E98E:vzcreate:126:rm@pve:",
  "UPID:a/b:00001068:0004A0CC:6B02E98E:t:1:u:",
]) {
  test(`"${text}" is not a task id`, () => assert.equal(tryUpid(text), undefined));
}
