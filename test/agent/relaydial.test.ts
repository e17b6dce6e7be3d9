import assert from "node:assert/strict";
import { test } from "node:test";
import { NEXT_URL_AFTER_MS, RelayDialer, urlsOf } from "../../src/agent/relaydial.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import type { ByteStream } from "../../src/sys/bytestream.js";
import { LabClock, settled } from "./labclock.js";

const PUBLIC = "https://203.0.113.77";
const HOME = "https://192.168.7.50:8443";
const THIRD = "https://relay.example";
const DEAF_MS = 10_000;

/** URLs that answer after a while, refuse, or, like a router that does not lead back in, swallow every packet. */
class Bench {
  readonly clock = new LabClock();
  readonly dialed: string[] = [];
  readonly ended: string[] = [];
  readonly dialer: RelayDialer;
  #over = new AbortController();

  constructor(answers: Readonly<Record<string, number | "refused" | "deaf">>) {
    this.dialer = new RelayDialer(
      async (url, { signal }) => {
        const { origin } = new URL(url);
        this.dialed.push(url);
        const answer = answers[origin] ?? "deaf";
        if (answer === "refused") throw new Failure("relay-unreachable", `${origin}: refused`);
        await this.clock.sleep(answer === "deaf" ? DEAF_MS : answer, signal);
        if (answer === "deaf") throw new Failure("relay-unreachable", `${origin}: no answer in time`);
        return this.#streamOf(origin);
      },
      this.clock,
      Object.keys(answers),
    );
  }

  /** What came of it, and when; what was opened is still open. */
  async dial(): Promise<{ readonly by: string; readonly afterMs: number }> {
    const began = this.clock.now();
    this.#over = new AbortController();
    const options = { protocol: "p", bindingHeader: "b", timeoutMs: DEAF_MS, signal: this.#over.signal };
    let ended: { by: string; afterMs: number } | undefined;
    this.dialer.dial(`${PUBLIC}/relay`, options).then(
      ({ remote }) => (ended = { by: remote, afterMs: this.clock.now() - began }),
      (error: Error) => (ended = { by: error.message, afterMs: this.clock.now() - began }),
    );
    await settled();
    while (ended === undefined) await this.clock.advance(100);
    await this.clock.advance(2 * DEAF_MS);
    return ended;
  }

  #streamOf(origin: string): ByteStream {
    const end = (): void => void this.ended.push(origin);
    const nothing = (): void => undefined;
    const rest = { listen: nothing, write: nothing, pause: nothing, resume: nothing };
    return { remote: origin, binding: undefined, ...rest, end, terminate: end };
  }
}

test("the URL for strangers is tried first, and no other while it answers in time", async () => {
  const bench = new Bench({ [PUBLIC]: 300, [HOME]: 1 });
  assert.deepEqual(await bench.dial(), { by: PUBLIC, afterMs: 300 });
  assert.deepEqual(bench.dialed, [`${PUBLIC}/relay`]);
  assert.deepEqual(bench.ended, []);
});

test("behind a router that does not lead back in, the home's own URL is reached after a second, and first from then on", async () => {
  const bench = new Bench({ [PUBLIC]: "deaf", [HOME]: 5 });
  assert.deepEqual(await bench.dial(), { by: HOME, afterMs: NEXT_URL_AFTER_MS + 5 });
  bench.dialer.settle(true);
  assert.equal(bench.dialer.first, HOME);
  assert.deepEqual(await bench.dial(), { by: HOME, afterMs: 5 });
  assert.deepEqual(bench.ended, [], "what was opened stays open when the rest is given up");
});

test("a URL that refuses is not waited for", async () => {
  const bench = new Bench({ [PUBLIC]: "refused", [THIRD]: "refused", [HOME]: 5 });
  assert.deepEqual(await bench.dial(), { by: HOME, afterMs: 5 });
});

test("once one has opened, what is under way is given up and nothing more is dialed", async () => {
  const bench = new Bench({ [PUBLIC]: NEXT_URL_AFTER_MS + 50, [HOME]: 20, [THIRD]: 1 });
  assert.deepEqual(await bench.dial(), { by: HOME, afterMs: NEXT_URL_AFTER_MS + 20 });
  assert.deepEqual(bench.dialed.length, 2, "nothing is dialed once one is open");
});

test("who answered and was not the relay is tried last", async () => {
  const bench = new Bench({ [PUBLIC]: "deaf", [HOME]: 5, [THIRD]: 5 });
  assert.equal((await bench.dial()).by, HOME);
  bench.dialer.settle(false);
  assert.equal((await bench.dial()).by, THIRD);
  bench.dialer.settle(true);
  bench.dialer.settle(false); // the connection ended later on, which says nothing of the URL
  assert.equal(bench.dialer.first, THIRD);
});

test("when none answers, the reason is that of the URL that people know", async () => {
  const bench = new Bench({ [PUBLIC]: "deaf", [HOME]: "refused" });
  assert.deepEqual(await bench.dial(), { by: `${PUBLIC}: no answer in time`, afterMs: DEAF_MS });
});

test("a relay's URLs are its own and the others, each once", () => {
  const relay = { id: "r", name: "r", url: PUBLIC, relayKey: keyOf(new Uint8Array(32)), stunPort: 0 };
  assert.deepEqual(urlsOf(relay), [PUBLIC]);
  assert.deepEqual(urlsOf({ ...relay, urls: [PUBLIC, HOME] }), [PUBLIC, HOME]);
});
