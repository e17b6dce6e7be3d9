import assert from "node:assert/strict";
import { test } from "node:test";
import { CHANGES_AT_ONCE_MAX, type Change, CommitQueue, GATHER_MAX_MS } from "../../src/coordinator/commitqueue.js";

/** A clock that stands still until it is put forward, and a disk that takes its time. */
class World {
  now = 0;
  readonly #sleepers = new Set<{ at: number; wake(): void }>();
  readonly transactions: string[][] = [];
  commitMs = 0;
  readonly queue = new CommitQueue<string[]>(
    { now: () => this.now, sleep: (ms, signal) => this.#sleep(ms, signal) },
    (all) => this.#commit(all),
  );

  readonly change = (name: string): Change<string[], string> => ({
    decide: async (turn) => {
      turn.push(name);
      return name;
    },
  });

  async advance(ms: number): Promise<void> {
    this.now += ms;
    for (const sleeper of [...this.#sleepers]) if (sleeper.at <= this.now) sleeper.wake();
    await settle();
  }

  async #commit(all: readonly ((turn: string[]) => Promise<unknown>)[]): Promise<PromiseSettledResult<unknown>[]> {
    const turn: string[] = [];
    const results = [];
    for (const decide of all) results.push(...(await Promise.allSettled([decide(turn)])));
    this.transactions.push(turn);
    this.now += this.commitMs;
    if (turn.includes("disk full")) throw new Error("disk full");
    return results;
  }

  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const sleeper = { at: this.now + ms, wake: () => resolve(void this.#sleepers.delete(sleeper)) };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", () => {
        this.#sleepers.delete(sleeper);
        reject(signal.reason);
      });
    });
  }
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("a change that comes alone waits for nothing", async () => {
  const { queue, change, transactions } = new World();
  assert.equal(await queue.together(change("one")), "one");
  assert.deepEqual(transactions, [["one"]]);
});

test("changes after a slow transaction are gathered into one, in their order", async () => {
  const world = new World();
  const { queue, change, transactions } = world;
  world.commitMs = 5;
  await queue.together(change("first"));
  const all = Promise.all(["a", "b", "c"].map((name) => queue.together(change(name))));
  await settle();
  assert.equal(transactions.length, 1, "they wait nine times as long as the transaction before took");
  await world.advance(45);
  assert.deepEqual(await all, ["a", "b", "c"]);
  assert.deepEqual(transactions, [["first"], ["a", "b", "c"]]);
});

test("nobody waits longer than the bound, however slow the disk is", async () => {
  const world = new World();
  const { queue, change, transactions } = world;
  world.commitMs = 10_000;
  await queue.together(change("first"));
  const second = queue.together(change("second"));
  await world.advance(GATHER_MAX_MS);
  assert.equal(await second, "second");
  assert.equal(transactions.length, 2);
});

test("a change that stands alone ends the gathering, and everything keeps its order", async () => {
  const world = new World();
  const { queue, change, transactions } = world;
  world.commitMs = 5;
  await queue.together(change("first"));
  const done: string[] = [];
  const before = queue.together(change("before")).then((name) => done.push(name));
  const revocation = queue.alone(async () => transactions.push(["revoked"])).then(() => done.push("revoked"));
  const after = queue.together(change("after")).then((name) => done.push(name));
  await Promise.all([before, revocation]);
  await world.advance(GATHER_MAX_MS);
  await after;
  assert.deepEqual(transactions, [["first"], ["before"], ["revoked"], ["after"]]);
  assert.deepEqual(done, ["before", "revoked", "after"]);
});

test("as many as one transaction takes do not wait, and the next ones are in the next", async () => {
  const world = new World();
  const { queue, change, transactions } = world;
  world.commitMs = 5;
  await queue.together(change("first"));
  const all = Array.from({ length: CHANGES_AT_ONCE_MAX + 1 }, (_, n) => queue.together(change(`${n}`)));
  await Promise.all(all.slice(0, CHANGES_AT_ONCE_MAX));
  assert.deepEqual(
    transactions.map(({ length }) => length),
    [1, CHANGES_AT_ONCE_MAX],
  );
  await world.advance(GATHER_MAX_MS);
  await Promise.all(all);
  assert.equal(transactions.length, 3);
});

test("of changes in one transaction the one that fails is the one that hears of it", async () => {
  const { queue, change, transactions } = new World();
  const failing = queue.together({ decide: () => Promise.reject(new Error("not you")) });
  const others = ["a", "b"].map((name) => queue.together(change(name)));
  await assert.rejects(failing, /not you/);
  assert.deepEqual(await Promise.all(others), ["a", "b"]);
  assert.deepEqual(transactions.flat(), ["a", "b"]);
});

test("a transaction that does not last is told to every change in it, and the next one is tried", async () => {
  const world = new World();
  const { queue, change } = world;
  const held = queue.alone(settle);
  const all = ["a", "disk full", "b"].map((name) => queue.together(change(name)));
  await held;
  const told = await Promise.allSettled(all);
  assert.deepEqual(
    told.map(({ status }) => status),
    ["rejected", "rejected", "rejected"],
  );
  assert.equal(await queue.together(change("next")), "next");
});

test("what is answered without writing costs no transaction, and is asked again after others' decisions", async () => {
  const { queue, change, transactions } = new World();
  let there = false;
  const look = { look: () => (there ? "there" : undefined), ...change("made") };
  const make: Change<string[], string> = {
    decide: async (turn) => {
      there = true;
      return change("making").decide(turn);
    },
  };
  assert.deepEqual(await Promise.all([queue.together(look), queue.together(make)]), ["made", "making"]);
  assert.equal(await queue.together(look), "there");
  assert.deepEqual(transactions, [["made", "making"]]);
});

test("a look that fails is its own change's failure, and the queue goes on", async () => {
  const { queue, change } = new World();
  const failing = queue.together({
    ...change("x"),
    look: () => {
      throw new Error("no look");
    },
  });
  await assert.rejects(failing, /no look/);
  assert.equal(await queue.together(change("next")), "next");
});
