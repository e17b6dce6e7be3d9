import assert from "node:assert/strict";
import { CONTROL_LIMITS } from "../../src/agent/control.js";
import { utf8 } from "../../src/kit/bytes.js";
import { keyPairOf } from "../../src/kit/crypto.js";
import { keyBytes, keyOf } from "../../src/kit/key.js";
import { systemRandom } from "../../src/sys/random.js";
import { type BinarySocket, dialWebSocket } from "../../src/sys/websocket.js";
import type { KeyRequest } from "../../src/wire/adminapi.js";
import { CONTROL_PROLOGUE, decodeToDevice, encodeControl, type ToDevice } from "../../src/wire/control.js";
import { type Initiation, initiate, type Transport } from "../../src/wire/noise.js";
import type { Reachable } from "./bench.js";

/** A device's end of the channel by hand: for what no honest agent does, and for crowds that must cost little. */
export type Raw = { socket: BinarySocket; closed: Promise<string>; next(): Promise<Uint8Array> };

/** A coordinator that makes join keys. */
export type Hosting = {
  readonly coordinator: Reachable;
  key(wanted: KeyRequest): Promise<{ readonly secret: string }>;
};

export async function openRaw(bench: Pick<Hosting, "coordinator">): Promise<Raw> {
  const socket = await dialWebSocket(`wss://127.0.0.1:${bench.coordinator.port}/control`, {
    messageBytesMax: 1 << 22,
    timeoutMs: CONTROL_LIMITS.dialTimeoutMs,
    handshakeTimeoutMs: CONTROL_LIMITS.handshakeTimeoutMs,
    signal: new AbortController().signal,
  });
  const arrived: Uint8Array[] = [];
  let wake: () => void = () => undefined;
  const closed = new Promise<string>((resolve) => {
    socket.listen({
      message(bytes) {
        arrived.push(bytes);
        wake();
      },
      closed: resolve,
    });
  });
  return {
    socket,
    closed,
    async next() {
      for (;;) {
        const first = arrived.shift();
        if (first !== undefined) return first;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
  };
}

export function startRaw(bench: Pick<Hosting, "coordinator">, local = keyPairOf(systemRandom(32))): Initiation {
  const remotePublic = keyBytes(bench.coordinator.publicKey);
  const ephemeral = keyPairOf(systemRandom(32));
  return initiate({ local, remotePublic, prologue: utf8(CONTROL_PROLOGUE), ephemeral });
}

export type Greeted = Raw & { transport: Transport; answer: ToDevice };

export async function greetRaw(
  bench: Hosting,
  name: string,
  machineKey = keyPairOf(systemRandom(32)),
  publicKey = keyOf(keyPairOf(systemRandom(32)).publicKey),
  secret?: string,
): Promise<Greeted> {
  const joinSecret = secret ?? (await bench.key({ role: "device" })).secret;
  const raw = await openRaw(bench);
  const handshake = startRaw(bench, machineKey);
  await raw.socket.send(handshake.message);
  const transport = handshake.finish(await raw.next()) ?? assert.fail("the coordinator proves itself");
  const report = { endpoints: ["203.0.113.7:51820", "192.168.1.5:51820"], routes: [], resolvers: [] };
  await raw.socket.send(
    transport.seal(
      encodeControl({ type: "hello", version: 1, agentVersion: "t", name, publicKey, joinSecret, report }),
    ),
  );
  const answer = decodeToDevice(transport.open(await raw.next()) ?? new Uint8Array(0)) ?? assert.fail("an answer");
  return { ...raw, transport, answer };
}

export async function joinRaw(...who: Parameters<typeof greetRaw>): Promise<Greeted> {
  const greeted = await greetRaw(...who);
  assert.equal(greeted.answer.type, "welcome");
  return greeted;
}
