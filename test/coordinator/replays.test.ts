import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { mountApi } from "../../src/coordinator/api/mount.js";
import { REPLAY_KEPT_MS, REPLAYS_MAX, Replays, type Reply } from "../../src/coordinator/api/replays.js";
import { Metrics } from "../../src/coordinator/metrics.js";
import type { Store } from "../../src/coordinator/store/store.js";
import { Failure } from "../../src/kit/failure.js";
import { systemRandom } from "../../src/sys/random.js";
import { startEngines } from "./engines.js";

const LIMIT = { timeout: 120_000 };
const KEY = "0123456789abcdef";
let started: Awaited<ReturnType<typeof startEngines>>;
before(async () => {
  started = await startEngines();
});
after(() => started.close());

async function inBoth(claim: (store: Store) => Promise<void>): Promise<void> {
  for (const engine of started.engines) {
    const { store, end } = await engine.open();
    try {
      await claim(store);
    } finally {
      await end();
    }
  }
}

let now = 1_000_000;
const replaysOf = (store: Store): Replays => new Replays({ store, random: systemRandom, wall: () => now });
const made: Reply = { status: 201, body: '{"joinKey":"a secret"}' };
const asked = (key = KEY, request = "POST /keys {}", caller = "admin-token") => ({ caller, key, request });

test("the second answer is the first one, also after a restart, and to its caller alone", LIMIT, () =>
  inBoth(async (store) => {
    let times = 0;
    const carryOut = async (): Promise<Reply> => {
      times++;
      return made;
    };
    assert.deepEqual(await replaysOf(store).once(asked(), carryOut), made);
    assert.deepEqual(await replaysOf(store).once(asked(), carryOut), made);
    assert.equal(times, 1);
    await replaysOf(store).once(asked(KEY, "POST /keys {}", "token:t1"), carryOut);
    assert.equal(times, 2, "somebody else was given the answer");
    await assert.rejects(replaysOf(store).once(asked(KEY, "POST /keys []"), carryOut), {
      code: "idempotency-key-reused",
    });
    now += REPLAY_KEPT_MS + 1;
    await replaysOf(store).once(asked(), carryOut);
    assert.equal(times, 3);
  }),
);

test(
  "a coordinator that died over a request does not do it again: a repetition is told that nothing is known",
  LIMIT,
  () =>
    inBoth(async (store) => {
      await new Promise<void>((begun) => {
        void replaysOf(store).once(asked(), () => {
          begun();
          return new Promise<Reply>(() => undefined);
        });
      });
      const never = async (): Promise<Reply> => assert.fail("it was carried out twice");
      await assert.rejects(replaysOf(store).once(asked(), never), { code: "request-unsettled" });
    }),
);

test("what was refused may be tried again with its key, what broke may not", LIMIT, () =>
  inBoth(async (store) => {
    const replays = replaysOf(store);
    const refuse = () => Promise.reject(new Failure("name-taken", "the name is taken"));
    await assert.rejects(replays.once(asked(), refuse), { code: "name-taken" });
    assert.deepEqual(await replays.once(asked(), async () => made), made);
    const other = `${KEY}-other`;
    await assert.rejects(
      replays.once(asked(other), () => Promise.reject(new Error("the disk is full"))),
      /disk/,
    );
    await assert.rejects(
      replays.once(asked(other), async () => made),
      { code: "request-unsettled" },
    );
  }),
);

test("remembered requests are bounded, and the oldest are forgotten", LIMIT, () =>
  inBoth(async (store) => {
    await store.change(async ({ replays }) => {
      for (let n = 0; n < 30; n++) await replays.add({ id: `r${n}`, request_hash: "", status: 1, body: "", at_ms: n });
      await replays.prune(5, 10);
    });
    const left: number[] = [];
    for (let n = 0; n < 30; n++) if ((await store.view.replays.find(`r${n}`)) !== undefined) left.push(n);
    assert.deepEqual(left, [20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
    assert.ok(REPLAYS_MAX <= 100_000);
  }),
);

test("a coordinator whose store does not answer lives and is not ready", LIMIT, () =>
  inBoth(async (store) => {
    const parts = { routes: [], now: () => now, replays: replaysOf(store), metrics: new Metrics() };
    const app = mountApi(
      { ...parts, ready: () => Promise.reject(new Error("connection refused")) },
      { kind: "socket" },
    );
    const get = async (path: string): Promise<number> =>
      (await app.fetch(new Request(`http://x${path}`), { remote: "" })).status;
    assert.deepEqual([await get("/healthz"), await get("/readyz")], [200, 503]);
  }),
);
