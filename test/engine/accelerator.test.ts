import assert from "node:assert/strict";
import { createCipheriv, createHash, randomInt } from "node:crypto";
import { test } from "node:test";
import { MessageRun, RUN_ARENA_BYTES, RUN_MESSAGES_MAX } from "../../src/engine/messagerun.js";
import { ACCELERATOR_ARENA_BYTES, type Accelerator, loadAccelerator } from "../../src/sys/accelerator.js";
import { Arena } from "../../src/sys/arena.js";
import { loadLibc } from "../../src/sys/libc.js";

const TAG_BYTES = 16;
const PLACE_BYTES = 3 * 65_536;
const AROUND = 256;

const arena = new Arena(loadLibc(), ACCELERATOR_ARENA_BYTES + RUN_ARENA_BYTES + PLACE_BYTES);
const { bytes } = arena;
const run = new MessageRun(arena);
const accelerator = loadAccelerator(loadLibc(), arena);
const place = arena.take(PLACE_BYTES);
const key = noise("key", 32);

type Message = { readonly at: number; readonly length: number; readonly low: number; readonly high: number };

const RFC_2_4_2 = {
  key: Uint8Array.from({ length: 32 }, (_, i) => i),
  low: 0x4a000000,
  high: 0,
  text: "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  sealed:
    "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639d624e65152ab" +
    "8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf74a35be6b40b8eedf2785e42874d",
};
const RFC_A_5 = {
  key: Buffer.from("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0", "hex"),
  low: 0x04030201,
  high: 0x08070605,
  text: "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted by other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them other than as /“work in progress./”",
  sealed:
    "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100" +
    "d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b350638" +
    "3606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa115" +
    "5b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10" +
    "49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
};

const WIDTHS = { 0: "128-bit", 1: "256-bit", 2: "512-bit" } as const;
for (const level of [0, 1, 2] as const) {
  const claim = (title: string, check: (accelerator: Accelerator) => void): void => {
    test(`${WIDTHS[level]} vectors: ${title}`, (context) => {
      if (accelerator === undefined) return context.skip("built without a C compiler");
      if (accelerator.level(level) !== level) return context.skip("this machine has none so wide");
      check(accelerator);
    });
  };

  claim("RFC 8439 §2.4.2 and A.5: the texts become the ciphertexts printed there", (accelerator) => {
    for (const { key: theirs, low, high, text, sealed } of [RFC_2_4_2, RFC_A_5]) {
      const plain = Buffer.from(text);
      bytes.set(plain, place);
      lay({ at: place, length: plain.length, low, high });
      accelerator.seal(theirs, run.table, run.count);
      assert.equal(Buffer.from(bytes.subarray(place, place + plain.length)).toString("hex"), sealed);
    }
  });

  claim("every length from 0 to 2100 seals as OpenSSL does, opens again, and touches nothing around", (accelerator) => {
    for (let length = 0; length <= 2100; length++)
      holds(accelerator, [{ at: place + AROUND + (length % 67), length, low: length, high: length % 3 }]);
  });

  claim("lengths up to 65,535 and counters up to 2^64 do", (accelerator) => {
    const at = place + AROUND;
    const word = (): number => randomInt(2 ** 32);
    for (const length of [65_535, 65_520, 65_519, ...Array.from({ length: 60 }, () => randomInt(2101, 65_535))])
      holds(accelerator, [{ at: at + randomInt(64), length, low: word(), high: word() }]);
    for (const [low, high] of [
      [0xffffffff, 0],
      [0, 1],
      [0xffffffff, 0xffffffff],
    ] as const)
      holds(accelerator, [{ at, length: 100, low, high }]);
  });

  claim(
    "a run of as many messages as fit, of all lengths, is sealed and opened as each of them alone",
    (accelerator) => {
      for (let round = 0; round < 300; round++) {
        const messages: Message[] = [];
        let at = place + AROUND;
        // Every second run is of equal lengths, as a cut TUN read is, but for its last message.
        const usual = randomInt(2) === 0 ? undefined : randomInt(1500);
        const count = round < RUN_MESSAGES_MAX ? round + 1 : randomInt(1, RUN_MESSAGES_MAX + 1);
        for (let i = 0; i < count; i++) {
          const length = usual === undefined || i === count - 1 ? randomInt(randomInt(2) === 0 ? 130 : 2100) : usual;
          messages.push({ at, length, low: (0xffffffe0 + i) >>> 0, high: i < 32 ? 7 : 8 });
          at += length + TAG_BYTES + randomInt(40);
        }
        holds(accelerator, messages);
      }
    },
  );

  claim("a run of no messages writes nothing", (accelerator) => {
    lay();
    accelerator.seal(key, run.table, run.count);
    // Its key now lies in the arena.
    const before = bytes.slice();
    accelerator.seal(key, run.table, run.count);
    accelerator.open(key, run.table, run.count);
    assert.ok(Buffer.from(before).equals(bytes));
  });

  claim("no single flipped bit of a sealed message is accepted, and the forgery stays as it came", (accelerator) => {
    for (const length of [0, 1, 15, 16, 17, 48, 63, 64, 65, 112, 127, 128, 129, 240, 1420]) {
      const message = { at: place, length, low: 5, high: 0 };
      const sealed = sealedBytes(noise("flipped", length), message);
      const step = length < 200 ? 1 : 37;
      for (let bit = 0; bit < sealed.length * 8; bit += step) {
        const forged = Uint8Array.from(sealed);
        forged[bit >> 3] = (forged[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        bytes.set(forged, place);
        lay(message);
        accelerator.open(key, run.table, 1);
        assert.equal(run.genuine(0), false, `bit ${bit} of ${length} bytes`);
        assert.deepEqual(bytes.subarray(place, place + forged.length), forged);
      }
    }
  });

  claim("forgeries among the messages of a run are refused, and the others open", (accelerator) => {
    for (let round = 0; round < 200; round++) {
      const stride = 300;
      const messages = Array.from({ length: RUN_MESSAGES_MAX }, (_, i) => ({
        at: place + i * stride,
        length: randomInt(stride - TAG_BYTES + 1),
        low: i,
        high: round,
      }));
      const forged = messages.map(() => randomInt(3) === 0);
      const plains = messages.map(({ length }, i) => noise(`among ${round} ${i}`, length));
      for (const [i, message] of messages.entries()) {
        const sealed = sealedBytes(plains[i] ?? new Uint8Array(), message);
        const where = randomInt(sealed.length);
        if (forged[i]) sealed[where] = (sealed[where] ?? 0) ^ (1 << randomInt(8));
        bytes.set(sealed, message.at);
      }
      // What the table held before must not count.
      lay(...messages);
      for (let i = 0; i < messages.length; i++) run.judge(i, randomInt(2) === 0);
      accelerator.open(key, run.table, run.count);
      for (const [i, { at, length }] of messages.entries()) {
        assert.equal(run.genuine(i), !forged[i], `message ${i} of round ${round}`);
        if (!forged[i]) assert.deepEqual(bytes.subarray(at, at + length), plains[i]);
      }
    }
  });

  claim("another counter, key or length does not open a message", (accelerator) => {
    const message = { at: place, length: 300, low: 5, high: 9 };
    const opens = (altered: Partial<Message>, with_ = key): boolean => {
      bytes.set(sealedBytes(noise("other", 300), message), place);
      lay({ ...message, ...altered });
      accelerator.open(with_, run.table, 1);
      return run.genuine(0);
    };
    assert.equal(opens({}), true);
    for (const altered of [{ low: 6 }, { high: 8 }, { length: 299 }, { length: 301 }, { at: place + 1 }])
      assert.equal(opens(altered), false, JSON.stringify(altered));
    assert.equal(opens({}, noise("other key", 32)), false);
  });

  claim("a message may end where the memory ends", (accelerator) => {
    for (const length of [0, 1, 63, 1421])
      holds(accelerator, [{ at: bytes.length - length - TAG_BYTES, length, low: 1, high: 0 }]);
  });
}

test("the accelerator never takes wider vectors than it was told, and forgets its key", (context) => {
  if (accelerator === undefined) return context.skip("built without a C compiler");
  for (const level of [0, 1, 2] as const) assert.ok(accelerator.level(level) <= level);
  lay({ at: place, length: 1, low: 0, high: 0 });
  accelerator.seal(key, run.table, 1);
  assert.ok(Buffer.from(bytes).includes(Buffer.from(key)));
  accelerator.forget();
  assert.ok(!Buffer.from(bytes).includes(Buffer.from(key)));
});

function lay(...messages: Message[]): void {
  run.clear();
  for (const { at, length, low, high } of messages) run.add(at, length, high, low);
}

/** Seals the messages against node:crypto, opens them, and compares all bytes from before the first to after the last. */
function holds(accelerator: Accelerator, messages: readonly Message[]): void {
  const from = Math.max((messages[0]?.at ?? 0) - AROUND, place);
  const last = messages.at(-1) ?? { at: 0, length: 0 };
  const to = Math.min(last.at + last.length + TAG_BYTES + AROUND, bytes.length);
  const before = noise(`around ${last.length}`, to - from);
  const after = Uint8Array.from(before);
  for (const message of messages) {
    const at = message.at - from;
    after.set(sealedBytes(before.subarray(at, at + message.length), message), at);
  }
  const what = JSON.stringify(messages);
  bytes.set(before, from);
  lay(...messages);
  accelerator.seal(key, run.table, run.count);
  assert.ok(Buffer.from(after).equals(bytes.subarray(from, to)), `sealing ${what}`);
  accelerator.open(key, run.table, run.count);
  for (const [i, { at, length }] of messages.entries()) {
    assert.equal(run.genuine(i), true, `message ${i} of ${what}`);
    after.set(before.subarray(at - from, at - from + length), at - from);
  }
  assert.ok(Buffer.from(after).equals(bytes.subarray(from, to)), `opening ${what}`);
}

function sealedBytes(plain: Uint8Array, { low, high }: Message): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(low, 4);
  nonce.writeUInt32LE(high, 8);
  const cipher = createCipheriv("chacha20-poly1305", key, nonce, { authTagLength: TAG_BYTES });
  return Uint8Array.from(Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]));
}

/** The same bytes for the same name. */
function noise(name: string, length: number): Uint8Array {
  return Uint8Array.from(
    createHash("shake256", { outputLength: Math.max(length, 1) })
      .update(name)
      .digest(),
  ).subarray(0, length);
}
