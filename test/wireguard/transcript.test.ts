import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import type { Effect } from "../../src/wireguard/device.js";
import { hex } from "./hex.js";
import { type Outcome, SlowTwin } from "./slowtwin.js";
import {
  chanceOfTranscript,
  deviceOf,
  readTranscripts,
  type Step,
  THEIR_ENDPOINT,
  type Transcript,
} from "./transcript.js";

/** Our side of the conversation: what it did must be what the transcript says it did next. */
function replay(transcript: Transcript): void {
  let wallMs = 0;
  const device = deviceOf(transcript, () => wallMs);
  const did: Step[] = [];
  const carry = (effects: readonly Effect[]): void => {
    for (const effect of effects)
      if (effect.kind === "send") {
        assert.deepEqual(effect.to, THEIR_ENDPOINT);
        did.push({ kind: "datagram out", hex: toHex(effect.datagram) });
      } else did.push({ kind: "packet in", hex: toHex(effect.packet) });
  };
  for (const step of transcript.steps)
    switch (step.kind) {
      case "time":
        wallMs = step.wallMs;
        carry(device.tick(wallMs));
        break;
      case "packet out":
        carry(device.send(hex(step.hex), wallMs));
        break;
      case "datagram in":
        carry(device.receive(hex(step.hex), THEIR_ENDPOINT, wallMs));
        break;
      default:
        assert.deepEqual(did.shift(), step);
    }
  assert.deepEqual(did, []);
}

/** The same by the slow twin, which sends what it is told to and when. */
function replaySlowly(transcript: Transcript): void {
  let wallMs = 0;
  const twin = new SlowTwin({
    staticPrivate: hex(transcript.ourPrivateKey),
    peerPublic: keyPairOf(hex(transcript.theirPrivateKey)).publicKey,
    presharedKey: hex(transcript.presharedKey),
    random: chanceOfTranscript(transcript),
    wallMs: () => wallMs,
  });
  let last: Outcome = { kind: "refused" };
  let packet = new Uint8Array(0);
  for (const step of transcript.steps)
    switch (step.kind) {
      case "time":
        wallMs = step.wallMs;
        break;
      case "packet out":
        packet = new Uint8Array(hex(step.hex));
        break;
      case "datagram in":
        last = twin.receive(hex(step.hex), THEIR_ENDPOINT);
        assert.notEqual(last.kind, "refused");
        break;
      case "packet in":
        assert.deepEqual(last, { kind: "packet", packet: hex(step.hex) });
        break;
      case "datagram out": {
        const datagram: Uint8Array = step.hex.startsWith("01")
          ? twin.initiate()
          : last.kind === "answer"
            ? last.datagram
            : twin.send(packet);
        last = { kind: "refused" };
        assert.equal(toHex(datagram), step.hex);
      }
    }
}

for (const transcript of readTranscripts()) {
  const title = `recorded from wireguard-go, ${transcript.name}:`;
  test(`${title} with our randomness again the device says the same and opens the same`, () => replay(transcript));
  test(`${title} the slow twin as well`, () => replaySlowly(transcript));
  test(`${title} an altered byte of theirs ends it`, () => {
    transcript.steps.forEach((step, place) => {
      if (step.kind !== "datagram in") return;
      for (const at of [0, 4, 20, -33, -17, -1]) {
        const bytes = hex(step.hex);
        const index = at < 0 ? bytes.length + at : at;
        // A mac2 that nobody asked for is nobody's business (§5.4.4).
        if (bytes[0] !== undefined && bytes[0] <= 2 && index >= bytes.length - 16) continue;
        bytes[index] = (bytes[index] ?? 0) ^ 0x10;
        const altered = { kind: step.kind, hex: toHex(bytes) };
        assert.throws(() => replay({ ...transcript, steps: transcript.steps.with(place, altered) }), `${place} ${at}`);
      }
    });
  });
}
