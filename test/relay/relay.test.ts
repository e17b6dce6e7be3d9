import assert from "node:assert/strict";
import { request } from "node:https";
import { after, test } from "node:test";
import { connect } from "node:tls";
import { concat, toHex, utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { ADMISSION_LIFETIME_MS, CLOCK_SKEW_MAX_MS, issueRevocation } from "../../src/wire/admission.js";
import { encodeFrame, FRAME, HEADER_BYTES, RELAY_PATH, RELAY_PROTOCOL, REVOKE_PATH } from "../../src/wire/relay.js";
import { mutateBytes } from "../fuzz/mutate.js";
import { addressOf, admissionOf, datagramTo, framesIn, loginOf, machineOf, SIGNER } from "./relaylab.js";
import { dialOptions, openTestRelay, TestDevice } from "./relayworld.js";

/** Real TLS on loopback. Every test has keys of its own, so that one's revocation is not another's. */
const relay = await openTestRelay();
after(() => relay.close());

const opened: TestDevice[] = [];
after(() => Promise.all(opened.map((device) => device.stop())));
async function device(name: string, home = true): Promise<TestDevice> {
  const made = new TestDevice(name, relay.url, home);
  opened.push(made);
  await made.connected();
  return made;
}

test("ten thousand datagrams arrive as they were sent, in order, from whom they came", async () => {
  const [left, right] = [await device("left"), await device("right")];
  const sent: string[] = [];
  for (let i = 0; i < 10_000; i++) {
    const datagram = hash(utf8(`datagram ${i}`)).subarray(0, 1 + (i % 32));
    sent.push(toHex(datagram));
    left.client.send(addressOf("right"), datagram);
    if (i % 500 === 499) await right.until(() => right.heard.length === i + 1);
  }
  assert.deepEqual(
    right.heard.map(({ datagram }) => datagram),
    sent,
  );
  assert.ok(right.heard.every(({ from }) => from === addressOf("left")));
});

test("the longest datagram passes, and one byte more is not sent", async () => {
  const [left, right] = [await device("long left"), await device("long right")];
  left.client.send(addressOf("long right"), new Uint8Array(9_217));
  left.client.send(addressOf("long right"), new Uint8Array(9_216).fill(7));
  await right.until(() => right.heard.length > 0);
  assert.deepEqual(
    right.heard.map(({ datagram }) => datagram.length / 2),
    [9_216],
  );
});

for (const { name, admission, says } of [
  {
    name: "expired",
    admission: admissionOf("a", { now: Date.now() - ADMISSION_LIFETIME_MS - CLOCK_SKEW_MAX_MS }),
    says: "admission-expired",
  },
  { name: "forged", admission: admissionOf("b", { now: Date.now() }, hash(utf8("other"))), says: "admission-forged" },
  { name: "of another device", admission: admissionOf("c", { now: Date.now() }), says: "admission-of-another" },
  { name: "that is nonsense", admission: new Uint8Array(138), says: "admission-malformed" },
] as const)
  test(`a device with an admission ${name} is refused: ${says}`, async () => {
    const refused = new TestDevice("d", relay.url, true, undefined, admission);
    assert.equal(await refused.refusal(), says);
    await refused.stop();
  });

test("a device without an admission does not dial", async () => {
  const before = relay.service.connections;
  const waiting = new TestDevice("e", relay.url, true, undefined, null);
  await waiting.until(() => waiting.states.length > 0);
  assert.deepEqual(waiting.states, [{ kind: "idle" }]);
  assert.equal(relay.service.connections, before);
  await waiting.stop();
});

test("what answers with another key is not believed", async () => {
  const misled = new TestDevice("f", relay.url, true, keyOf(keyPairOf(hash(utf8("impostor"))).publicKey));
  assert.match(await misled.refusal(), /handshake-failed|does not hold the relay's key/);
  await misled.stop();
});

test("a login is worth nothing on another TLS connection: the exporter's value differs", async () => {
  const stream = await dialStream(`${relay.url}${RELAY_PATH}`, dialOptions());
  const answered = new Promise<Uint8Array>((resolve) => {
    stream.listen({ data: (chunks) => resolve(concat(...chunks)), written: () => undefined, closed: () => undefined });
  });
  assert.equal(stream.binding?.length, 32);
  stream.write([loginOf("g", new Uint8Array(32)).first]);
  assert.deepEqual(framesIn(await answered), [{ type: FRAME.refused, body: Uint8Array.of(0) }]);
});

test("a replayed first message gets an answer and no login", async () => {
  const stream = await dialStream(`${relay.url}${RELAY_PATH}`, dialOptions());
  const login = loginOf("h", stream.binding);
  const frames: number[] = [];
  const closed = new Promise<void>((resolve) => {
    stream.listen({
      data(chunks) {
        for (const { type } of framesIn(concat(...chunks))) frames.push(type);
        // Whoever recorded the message has no key to seal with.
        if (frames.length === 1) stream.write([encodeFrame(FRAME.login, new Uint8Array(138 + 16))]);
      },
      written: () => undefined,
      closed: () => resolve(),
    });
  });
  stream.write([login.first]);
  await closed;
  assert.deepEqual(frames, [FRAME.reply, FRAME.refused]);
});

test("a revoked device is cut before its signed order is answered, refused from then on, and the order works once", async () => {
  const [target, other] = [await device("target"), await device("bystander")];
  const order = issueRevocation(SIGNER, keyOf(machineOf("target").publicKey), systemRandom(16), Date.now());
  const forged = order.map((byte, i) => (i === 30 ? byte ^ 1 : byte));
  assert.equal(await post(REVOKE_PATH, forged), 403);
  assert.ok(target.client.connected);
  const isIn = (): boolean =>
    [...relay.service.switchboard.members].some(({ publicKey }) => publicKey === addressOf("target"));
  assert.ok(isIn());
  assert.equal(await post(REVOKE_PATH, order), 204);
  assert.ok(!isIn());
  assert.equal(await target.refusal(), "revoked");
  assert.equal(await post(REVOKE_PATH, order), 403, "a replay");
  assert.equal(await post(REVOKE_PATH, order.subarray(1)), 400);
  await target.until(() => target.states.filter(({ kind }) => kind === "waiting").length > 1);
  assert.ok(
    target.states.every(({ kind }, i) => i === 0 || kind === "waiting"),
    "it never came back",
  );
  assert.ok(other.client.connected);
});

test("a mapping is tried at the device's own address with its own token", async () => {
  const [asking, other] = [await device("asking"), await device("not asking")];
  const token = systemRandom(16);
  asking.client.dialBack({ port: 40_000, token });
  asking.client.send(addressOf("not asking"), utf8("behind it"));
  await other.until(() => other.heard.length > 0);
  const [trial] = relay.sent;
  assert.equal(`${trial?.address}:${trial?.port}`, "127.0.0.1:40000");
  assert.equal(toHex(trial?.datagram ?? new Uint8Array()), `45584e4444${toHex(token)}`);
});

test("what is no upgrade gets an HTTP answer", async () => {
  assert.equal(await post("/", new Uint8Array(3)), 404);
  assert.equal(await post(RELAY_PATH, new Uint8Array(3)), 404);
});

test("twenty thousand broken frames: counted, dropped, the relay serves on and its memory stays", async () => {
  let seed = 1;
  const chance = (): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed / 2 ** 32;
  };
  const [left, right] = [await device("fuzz left"), await device("fuzz right")];
  const examples = [
    datagramTo("fuzz right", utf8("payload")),
    datagramTo("fuzz right", utf8("probe"), FRAME.probe),
    encodeFrame(FRAME.ping, new Uint8Array(8)),
    encodeFrame(FRAME.renewal, admissionOf("fuzz", { now: Date.now() })),
    loginOf("fuzz").first,
  ];
  const heapBefore = process.memoryUsage().rss;
  const { counters } = relay.service.switchboard;
  const broken = (): number =>
    counters.malformed + counters.oversized + [...counters.refused.values()].reduce((a, b) => a + b, 0);
  const before = broken();
  for (let i = 0; i < 200; i++) {
    const stream = await dialStream(`${relay.url}${RELAY_PATH}`, dialOptions());
    // Half of them log in first, and then speak nonsense.
    await new Promise<void>((resolve) => {
      const login = loginOf("fuzzer", stream.binding);
      let stage = 0;
      const nonsense = (): void => {
        const parts = Array.from({ length: 100 }, () => mutateBytes(examples, chance));
        stream.write(parts.filter((part) => part.length > 0));
        stream.end();
      };
      stream.listen({
        data(chunks) {
          if (stage++ === 0) {
            const transport = login.finish(concat(...chunks).slice(HEADER_BYTES));
            const admission = admissionOf("fuzzer", { now: Date.now() });
            if (transport !== undefined) stream.write([encodeFrame(FRAME.login, transport.seal(admission))]);
          } else if (stage === 2) nonsense();
        },
        written: () => undefined,
        closed: () => resolve(),
      });
      if (i % 2 === 0) stream.write([login.first]);
      else nonsense();
    });
  }
  assert.ok(broken() - before >= 200, `${broken() - before} counted`);
  const count = right.heard.length;
  left.client.send(addressOf("fuzz right"), utf8("still here"));
  await right.until(() => right.heard.length > count && right.heard.at(-1)?.datagram === toHex(utf8("still here")));
  for (const { states } of [left, right]) assert.equal(states.length, 1, "it was connected throughout");
  const grown = (process.memoryUsage().rss - heapBefore) / 2 ** 20;
  assert.ok(grown < 64, `${grown} MiB more`);
});

function post(path: string, body: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(`${relay.url}${path}`, {
      method: "POST",
      rejectUnauthorized: false,
      agent: false,
      headers: { "content-length": body.length },
    });
    outgoing.on("response", (incoming) => {
      incoming.resume();
      resolve(incoming.statusCode ?? 0);
    });
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

const CUT = { timeout: 60_000 };

for (const [what, said] of Object.entries({ "says nothing": [], dribbles: [FRAME.initiation] }))
  test(`who opens a stream and ${what} is cut when its time is up`, CUT, async (t) => {
    const strict = await openTestRelay({ loginTimeoutMs: 500, frameTimeoutMs: 500 });
    t.after(() => strict.close());
    const stream = await dialStream(`${strict.url}${RELAY_PATH}`, dialOptions());
    await new Promise<void>((resolve) => {
      stream.listen({ data: () => undefined, written: () => undefined, closed: () => resolve() });
      if (said.length > 0) stream.write([Uint8Array.from(said)]);
    });
  });

test("who does not read is cut when a write to it is not taken, and until then little waits for it", CUT, async (t) => {
  const strict = await openTestRelay({ writeTimeoutMs: 2_000 });
  t.after(() => strict.close());
  const deaf = connect({ port: strict.port, host: "127.0.0.1", rejectUnauthorized: false });
  t.after(() => deaf.destroy());
  deaf.on("error", () => undefined);
  deaf.write(`GET ${RELAY_PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: ${RELAY_PROTOCOL}\r\n\r\n`);
  const login = loginOf("deaf");
  await new Promise<void>((resolve) => {
    let text = Buffer.alloc(0);
    let sent = false;
    deaf.on("data", (chunk: Buffer) => {
      text = Buffer.concat([text, chunk]);
      const head = text.indexOf("\r\n\r\n");
      if (head < 0) return;
      const frames = framesIn(text.subarray(head + 4));
      if (!sent) {
        sent = true;
        deaf.write(login.first);
      }
      const reply = frames.find(({ type }) => type === FRAME.reply);
      if (frames.some(({ type }) => type === FRAME.welcome)) {
        deaf.pause();
        resolve();
      } else if (reply !== undefined) {
        const transport = login.finish(reply.body) ?? assert.fail("not the relay");
        deaf.write(encodeFrame(FRAME.login, transport.seal(admissionOf("deaf", { now: Date.now() }))));
      }
    });
  });
  const { switchboard } = strict.service;
  const [deafMember = assert.fail("not logged in")] = switchboard.members;
  const sender = new TestDevice("sender", strict.url);
  t.after(() => sender.stop());
  await sender.connected();
  while (switchboard.members.has(deafMember)) {
    sender.client.send(addressOf("deaf"), new Uint8Array(1_300));
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(switchboard.queuedBytes < 2_000_000);
  }
});

test("on a restart the devices are told, and are back on the new one with what they send", async () => {
  // An address of its own: while nobody listens there, the kernel may give the port to another program.
  const host = "127.77.78.79";
  const first = await openTestRelay({}, { host });
  const [left, right] = [new TestDevice("r left", first.url), new TestDevice("r right", first.url)];
  await Promise.all([left.connected(), right.connected()]);
  await first.close();
  await left.until(() => left.states.at(-1)?.kind === "waiting");
  const second = await openTestRelay({}, { host, port: first.port });
  await Promise.all([left.connected(), right.connected()]);
  left.client.send(addressOf("r right"), utf8("again"));
  await right.until(() => right.heard.length > 0);
  assert.deepEqual(right.heard, [{ from: addressOf("r left"), datagram: toHex(utf8("again")) }]);
  await Promise.all([left.stop(), right.stop()]);
  await second.close();
});

test("a relay that is not home is dialed by the first datagram, which arrives", async () => {
  const home = await device("stays");
  const visitor = new TestDevice("visitor", relay.url, false);
  opened.push(visitor);
  visitor.client.send(addressOf("stays"), utf8("first"));
  await home.until(() => home.heard.length > 0);
  assert.deepEqual(home.heard, [{ from: addressOf("visitor"), datagram: toHex(utf8("first")) }]);
});

test("the metrics name what happened and no device", () => {
  const text = relay.service.metrics();
  assert.match(text, /^exitnode_relay_logins_total [1-9]/m);
  assert.match(text, /^exitnode_relay_refused_total\{reason="admission-expired"\} [1-9]/m);
  assert.match(text, /^exitnode_relay_cut_total\{reason="revoked"\} 1$/m);
  assert.ok(!text.includes(addressOf("left")) && !text.includes("127.0.0.1"));
});
