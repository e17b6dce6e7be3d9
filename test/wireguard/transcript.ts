import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { keyPairOf } from "../../src/kit/crypto.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { Device } from "../../src/wireguard/device.js";
import { hex } from "./hex.js";

/**
 * A conversation with wireguard-go as it went over the wire, with everything of ours that chance decided: whoever
 * uses the same keys, ephemeral keys, indices and moments must say the same. recordtranscript.ts makes them.
 */
export type Transcript = {
  readonly name: string;
  readonly ourPrivateKey: string;
  readonly theirPrivateKey: string;
  readonly presharedKey: string;
  /** Ours, in the order of use. */
  readonly ephemerals: readonly string[];
  readonly indices: readonly string[];
  readonly steps: readonly Step[];
};

export type Step =
  | { readonly kind: "time"; readonly wallMs: Millis }
  /** Our IP packet, before and after the tunnel. */
  | { readonly kind: "packet out" | "packet in"; readonly hex: string }
  | { readonly kind: "datagram out" | "datagram in"; readonly hex: string };

export const OUR_ADDRESS = "10.77.0.1";
export const THEIR_ADDRESS = "10.77.0.2";
export const OUR_ENDPOINT = parseEndpoint("127.0.0.1:51821");
export const THEIR_ENDPOINT = parseEndpoint("127.0.0.1:51820");

/** Hands out what the transcript says, by length: see chanceByLength. Jitter is zero. */
export function chanceOfTranscript({ ephemerals, indices }: Pick<Transcript, "ephemerals" | "indices">) {
  const left = new Map([
    [32, [...ephemerals]],
    [4, [...indices]],
  ]);
  return (length: number): Uint8Array => {
    if (length === 2) return new Uint8Array(2);
    const next = left.get(length)?.shift();
    assert(next !== undefined, `the transcript has no more chance of ${length} bytes`);
    return hex(next);
  };
}

/** Our device as it was when the transcript was recorded. */
export function deviceOf(transcript: Omit<Transcript, "name" | "steps">, wallMs: () => Millis): Device {
  const device = new Device({ random: chanceOfTranscript(transcript), wallMs });
  const peer = {
    publicKey: keyOf(keyPairOf(hex(transcript.theirPrivateKey)).publicKey),
    presharedKey: keyOf(hex(transcript.presharedKey)),
    endpoint: THEIR_ENDPOINT,
    allowedIps: [parseCidr(`${THEIR_ADDRESS}/32`)],
    persistentKeepaliveSeconds: 0,
  };
  device.configure({ privateKey: keyOf(hex(transcript.ourPrivateKey)), peers: [peer] }, wallMs());
  return device;
}

export function readTranscripts(): readonly Transcript[] {
  return JSON.parse(readFileSync("test/data/wireguard/transcripts.json", "utf8")) as readonly Transcript[];
}
