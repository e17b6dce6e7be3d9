import { utf8 } from "../kit/bytes.js";
import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { KEY_BYTES, type Key, keyBytes } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import type { BinarySocket } from "../sys/websocket.js";
import {
  CONTROL_PROLOGUE,
  encodeControl,
  hearFromCoordinator,
  PING_INTERVAL_MS,
  SILENCE_MAX_MS,
  type ToCoordinator,
  type ToDevice,
} from "../wire/control.js";
import { initiate, type Transport } from "../wire/noise.js";

/** One connection to the coordinator, from the Noise handshake until it ends. */
export type ControlSession = {
  /** Queues a message; lost when the connection ends before it has left. */
  send(message: ToCoordinator): void;
  /** Ends the session unless something is heard within PROBE_TIMEOUT_MS. */
  probe(): void;
  end(reason: string): void;
  /** Why it ended, in words. */
  readonly ended: Promise<string>;
};

export type SessionParts = { readonly socket: BinarySocket; readonly clock: Clock; readonly random: Random };

/** From the open socket to the coordinator's Noise reply. */
const HANDSHAKE_TIMEOUT_MS: Millis = 10_000;
/** What a connection that may be dead gets to prove the contrary, after the network changed. */
const PROBE_TIMEOUT_MS: Millis = 3_000;

/** Shakes hands and hands every message of the coordinator to `receive`, with the JSON value it came as; pings and silence are dealt with here. */
export async function openSession(
  { socket, clock, random }: SessionParts,
  machineKey: KeyPair,
  coordinatorKey: Key,
  receive: (message: ToDevice, raw: unknown) => void,
): Promise<ControlSession> {
  const over = new AbortController();
  let settleEnded: (reason: string) => void = () => undefined;
  const ended = new Promise<string>((resolve) => {
    settleEnded = resolve;
  });
  let onReply: ((reply: Uint8Array) => void) | undefined;
  let transport: Transport | undefined;
  let heardAt = clock.now();
  let heard = 0;

  const end = (reason: string): void => {
    if (over.signal.aborted) return;
    over.abort();
    settleEnded(reason);
    socket.close();
  };
  const send = (message: ToCoordinator): void => {
    if (transport === undefined || over.signal.aborted) return;
    socket.send(transport.seal(encodeControl(message))).catch(() => end("the connection broke while sending"));
  };
  socket.listen({
    message(bytes) {
      if (over.signal.aborted) return;
      if (transport === undefined) {
        onReply?.(bytes);
        return;
      }
      const plaintext = transport.open(bytes);
      if (plaintext === undefined) return end("a message was altered on the way");
      heardAt = clock.now();
      heard++;
      const { message, raw } = hearFromCoordinator(plaintext) ?? {};
      // A message of a newer coordinator that this version does not know is passed over.
      if (message?.type === "ping") send({ type: "pong", sentAt: message.sentAt });
      else if (message !== undefined && message.type !== "pong") receive(message, raw);
    },
    closed(reason) {
      end(`the connection to the coordinator ended: ${reason}`);
    },
  });

  const handshake = initiate({
    local: machineKey,
    remotePublic: keyBytes(coordinatorKey),
    prologue: utf8(CONTROL_PROLOGUE),
    ephemeral: keyPairOf(random(KEY_BYTES)),
  });
  const replied = new Promise<Uint8Array>((resolve) => {
    onReply = resolve;
  });
  socket.send(handshake.message).catch(() => end("the connection broke while sending"));
  const settled = new AbortController();
  clock.sleep(HANDSHAKE_TIMEOUT_MS, settled.signal).then(
    () => end("the coordinator did not answer the handshake"),
    () => undefined,
  );
  const reply = await Promise.race([replied, ended]);
  settled.abort();
  if (typeof reply === "string") throw new Failure("coordinator-unreachable", reply);
  transport = handshake.finish(reply);
  if (transport === undefined) {
    end("not the coordinator");
    throw new Failure("coordinator-unproven", "what answered does not hold the coordinator's key", {
      advice: "check that the URL leads to the coordinator that the join key came from",
    });
  }
  heardAt = clock.now();
  void keepAlive();

  async function keepAlive(): Promise<void> {
    while (!over.signal.aborted) {
      await clock.sleep(PING_INTERVAL_MS, over.signal).catch(() => undefined);
      if (clock.now() - heardAt >= SILENCE_MAX_MS) end("the coordinator fell silent");
      else send({ type: "ping", sentAt: clock.wall() });
    }
  }

  return {
    send,
    end,
    ended,
    probe() {
      const before = heard;
      send({ type: "ping", sentAt: clock.wall() });
      clock.sleep(PROBE_TIMEOUT_MS, over.signal).then(
        () => heard === before && end("the coordinator did not answer after the network changed"),
        () => undefined,
      );
    },
  };
}
