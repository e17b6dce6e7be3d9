import assert from "node:assert/strict";
import { after, test } from "node:test";
import { concat, toHex, utf8 } from "../../src/kit/bytes.js";
import { dialStream } from "../../src/sys/streamdial.js";
import { encodeFrame, FRAME, HEADER_BYTES, RELAY_PATH } from "../../src/wire/relay.js";
import { addressOf, admissionOf, datagramTo, framesIn, loginOf } from "./relaylab.js";
import { dialOptions, openTestRelay, TestDevice } from "./relayworld.js";

const relay = await openTestRelay();
after(() => relay.close());

const LIMIT = { timeout: 60_000 };
/** A frame longer than any: where the next one begins cannot be known. */
const UNREADABLE = Uint8Array.of(FRAME.datagram, 0xff, 0xff);

/** Logs in, says it in one piece, and waits until it is cut; the types of the frames it heard. */
async function sayAndBeCut(name: string, ...frames: Uint8Array[]): Promise<number[]> {
  const stream = await dialStream(`${relay.url}${RELAY_PATH}`, dialOptions());
  const login = loginOf(name, stream.binding);
  const heard: number[] = [];
  await new Promise<void>((resolve) => {
    stream.listen({
      data(chunks) {
        for (const { type } of framesIn(concat(...chunks))) heard.push(type);
        if (heard.length === 1) {
          const transport = login.finish(concat(...chunks).slice(HEADER_BYTES)) ?? assert.fail("no reply");
          stream.write([encodeFrame(FRAME.login, transport.seal(admissionOf(name, { now: Date.now() })))]);
        } else if (heard.length === 2) stream.write([concat(...frames)]);
      },
      written: () => undefined,
      closed: () => resolve(),
    });
    stream.write([login.first]);
  });
  return heard;
}

test(
  "what came before a frame that is none arrives as it was sent, and nobody else is the worse for it",
  LIMIT,
  async () => {
    const right = new TestDevice("right", relay.url);
    await right.connected();
    const sent = Array.from({ length: 20 }, (_, i) => utf8(`whole ${i}`));
    for (const [i, payload] of sent.entries()) {
      const heard = await sayAndBeCut(`speaker ${i}`, datagramTo("right", payload), UNREADABLE);
      assert.deepEqual(heard, [FRAME.reply, FRAME.welcome, FRAME.refused]);
      await right.until(() => right.heard.length > i);
    }
    assert.deepEqual(
      right.heard,
      sent.map((payload, i) => ({ from: addressOf(`speaker ${i}`), datagram: toHex(payload) })),
    );
    assert.deepEqual(
      right.states.map(({ kind }) => kind),
      ["connected"],
    );
    await right.stop();
  },
);
