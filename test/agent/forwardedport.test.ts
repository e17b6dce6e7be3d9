import assert from "node:assert/strict";
import { test } from "node:test";
import { ForwardedPort, TRIES_MAX, TRY_AGAIN_MS, TRY_MS } from "../../src/agent/forwardedport.js";
import { concat, toHex, utf8 } from "../../src/kit/bytes.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { MINUTE } from "../../src/kit/time.js";
import { systemRandom } from "../../src/sys/random.js";
import { DIAL_BACK_TYPE } from "../../src/wire/relay.js";
import { LabClock } from "./labclock.js";

/** A relay that is there or not, and a router that forwards the port or not. */

const OUTSIDE = parseEndpoint("203.0.113.9:51820");
const dialBack = (token: Uint8Array): Uint8Array => concat(utf8("EXND"), Uint8Array.of(DIAL_BACK_TYPE), token);

class Bench {
  readonly clock = new LabClock();
  relayIsThere = true;
  /** To whom the router forwards: to this device, or to another, or to nobody. */
  forwards: (token: Uint8Array) => void = (token) => void this.port.receive(dialBack(token));
  asked = 0;
  readonly told: string[] = [];
  readonly port: ForwardedPort = new ForwardedPort(
    { clock: this.clock, random: systemRandom },
    {
      dialBack: (_endpoint, token) => {
        if (!this.relayIsThere) return false;
        this.asked++;
        void this.clock.sleep(20).then(() => this.forwards(token));
        return true;
      },
      onChange: () => void this.told.push(this.port.leads),
    },
  );
}

test("a forward that leads here is proven by the first token, and looked after again later", async () => {
  const bench = new Bench();
  bench.port.follow(OUTSIDE);
  assert.equal(bench.port.leads, "untried");
  await bench.clock.advance(TRY_MS);
  assert.deepEqual([bench.told, bench.asked], [["here"], 1]);
  await bench.clock.advance(TRY_AGAIN_MS.here);
  assert.deepEqual([bench.told, bench.asked], [["here"], 2]);
});

test("a forward that leads to another device is not believed: the other one's token is not ours, nor ours the other's", async () => {
  const [first, second] = [new Bench(), new Bench()];
  let seen = 0;
  for (const bench of [first, second])
    bench.forwards = (token) => {
      seen++;
      assert.equal(first.port.receive(dialBack(token)), bench === first);
    };
  for (const bench of [first, second]) {
    bench.port.follow(OUTSIDE);
    await bench.clock.advance((TRIES_MAX + 1) * TRY_MS);
  }
  assert.deepEqual([first.port.leads, second.port.leads, seen], ["here", "elsewhere", 1 + TRIES_MAX]);
});

test("one token of several is enough, and a token of the last trial counts for nothing in the next", async () => {
  const bench = new Bench();
  const tokens: Uint8Array[] = [];
  bench.forwards = (token) => void tokens.push(token);
  bench.port.follow(OUTSIDE);
  await bench.clock.advance((TRIES_MAX + 1) * TRY_MS);
  assert.equal(bench.port.leads, "elsewhere");
  assert.equal(new Set(tokens.map(toHex)).size, 1);
  await bench.clock.advance(TRY_AGAIN_MS.elsewhere);
  assert.equal(bench.port.receive(dialBack(tokens[0] ?? new Uint8Array())), false);
  assert.equal(bench.port.receive(dialBack(tokens.at(-1) ?? new Uint8Array())), true);
  assert.deepEqual(bench.told, ["elsewhere", "here"]);
});

test("while no relay can try the configuration is believed, and it is tried as soon as one can", async () => {
  const bench = new Bench();
  bench.relayIsThere = false;
  bench.forwards = () => undefined;
  bench.port.follow(OUTSIDE);
  await bench.clock.advance(60 * MINUTE);
  assert.deepEqual([bench.port.leads, bench.told], ["untried", []]);
  bench.relayIsThere = true;
  bench.port.follow(OUTSIDE);
  assert.equal(bench.asked, 1);
  await bench.clock.advance(TRIES_MAX * TRY_MS);
  assert.equal(bench.port.leads, "elsewhere");
});

test("another public address is another question, and none ends it", async () => {
  const bench = new Bench();
  bench.port.follow(OUTSIDE);
  await bench.clock.advance(TRY_MS);
  bench.forwards = () => undefined;
  bench.port.follow(parseEndpoint("203.0.113.10:51820"));
  assert.equal(bench.port.leads, "untried");
  bench.port.follow(undefined);
  const { asked } = bench;
  await bench.clock.advance(60 * MINUTE);
  assert.deepEqual([bench.port.leads, bench.asked], ["untried", asked]);
});

test("after its end it asks for nothing more", async () => {
  const bench = new Bench();
  bench.port.follow(OUTSIDE);
  bench.port.stop();
  const { asked } = bench;
  bench.port.follow(parseEndpoint("203.0.113.10:51820"));
  await bench.clock.advance(60 * MINUTE);
  assert.equal(bench.asked, asked);
});
