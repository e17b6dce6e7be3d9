import { type KeyPair, keyPairOf } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { KEY_BYTES, type Key, keyBytes } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { ByteStream } from "../sys/bytestream.js";
import type { Clock } from "../sys/clock.js";
import type { Random } from "../sys/random.js";
import { type Initiation, initiate, type Transport } from "../wire/noise.js";
import {
  type DialBack,
  decodeRefused,
  decodeRestarting,
  decodeWelcome,
  encodeDialBack,
  encodeFrame,
  FRAME,
  HEADER_BYTES,
  PAYLOAD_BYTES_MAX,
  PING_BYTES,
  prologueOf,
  RELAY_SILENCE_MAX_MS,
  type RelayRefusal,
  type Restarting,
  type Welcome,
} from "../wire/relay.js";
import { FrameReader, type FrameSink } from "./framereader.js";
import { KeyNames } from "./keynames.js";
import { Outbox, type OutboxKind, type OutboxLimits } from "./outbox.js";
import { TurnMemory } from "./turnmemory.js";

/** From the open stream to the welcome. */
export const LOGIN_TIMEOUT_MS: Millis = 10 * SECOND;
export const CLIENT_PING_EVERY_MS: Millis = 25 * SECOND;
/** What was sent and is not answered for so long is followed by a ping: datagrams need no answer, a ping has one. */
const ANSWER_MS: Millis = SECOND;
/** What waits for a slow line: a quarter of a second of 16 Mbit/s; the oldest goes first. */
const OUTBOX: OutboxLimits = {
  dataBytesMax: 524_288,
  probeBytesMax: 32_768,
  noteBytesMax: 4_096,
  writeBytesMax: 131_072,
};

export type RelaySessionEvents = {
  /** A view, good until the call returns. */
  onDatagram(from: Key, datagram: Uint8Array): void;
  onProbe(from: Key, datagram: Uint8Array): void;
  /** Nobody with this key is at this relay. */
  onGone(key: Key): void;
  onRoundTrip(roundTripMs: Millis): void;
};

export type RelaySessionWant = {
  readonly machineKey: KeyPair;
  readonly relayKey: Key;
  readonly admission: Uint8Array;
};

export type RelayEnd = {
  readonly reason: string;
  readonly refusal?: RelayRefusal;
  readonly restarting?: Restarting;
};

/** A device's connection to one relay, logged in. */
export type RelaySession = {
  readonly welcome: Welcome;
  /** Datagrams that did not fit the queue, oldest first. */
  readonly dropped: () => number;
  send(to: Uint8Array, datagram: Uint8Array): void;
  probe(to: Uint8Array, datagram: Uint8Array): void;
  renew(admission: Uint8Array): void;
  /** Asks for DIAL_BACK to this port of the address the relay sees. */
  dialBack(asked: DialBack): void;
  ping(): void;
  /** True while the relay does not answer; it is asked, so that it can. The caller calls once a second. */
  look(): boolean;
  end(reason: string): void;
  readonly ended: Promise<RelayEnd>;
};

export type RelaySessionParts = { readonly stream: ByteStream; readonly clock: Clock; readonly random: Random };

/** Logs in on an open stream; a Failure says why not. */
export async function openRelaySession(
  parts: RelaySessionParts,
  want: RelaySessionWant,
  events: RelaySessionEvents,
): Promise<RelaySession> {
  const session = new Session(parts, want, events);
  const welcome = await session.login();
  return {
    welcome,
    dropped: () => session.dropped,
    send: (to, datagram) => session.send(FRAME.datagram, to, datagram),
    probe: (to, datagram) => session.send(FRAME.probe, to, datagram),
    renew: (admission) => session.note(encodeFrame(FRAME.renewal, admission)),
    dialBack: (asked) => session.note(encodeDialBack(asked)),
    ping: () => session.ping(),
    look: () => session.look(),
    end: (reason) => session.end({ reason }),
    ended: session.ended,
  };
}

class Session {
  readonly ended: Promise<RelayEnd>;
  dropped = 0;
  readonly #parts: RelaySessionParts;
  readonly #events: RelaySessionEvents;
  readonly #admission: Uint8Array;
  readonly #outbox: Outbox;
  readonly #reader: FrameReader;
  readonly #names = new KeyNames();
  readonly #over = new AbortController();
  readonly #initiation: Initiation;
  #settle: (end: RelayEnd) => void = () => undefined;
  #welcomed: (welcome: Welcome) => void = () => undefined;
  #transport: Transport | undefined;
  #in = false;
  #heardAt: Millis;
  /** The first that was sent since the relay was last heard. */
  #unansweredSince: Millis | undefined;
  #asked: { readonly ping: Uint8Array; readonly at: Millis } | undefined;
  #restarting: Restarting | undefined;

  constructor(parts: RelaySessionParts, want: RelaySessionWant, events: RelaySessionEvents) {
    const { stream, clock, random } = parts;
    this.#parts = parts;
    this.#events = events;
    this.#admission = want.admission;
    this.#heardAt = clock.now();
    this.ended = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const memory = new TurnMemory();
    const dropped = (_kind: OutboxKind, frames: number): void => {
      this.dropped += frames;
    };
    this.#outbox = new Outbox(stream, OUTBOX, { dropped }, memory);
    const sink: FrameSink = {
      frame: (type, buffer, at, end) => this.#frame(type, buffer, at, end),
      flush: () => this.#outbox.flush(clock.now()),
      malformed: () => undefined, // of a newer relay, perhaps
      oversized: () => this.end({ reason: "the relay sent a frame that is none" }),
    };
    this.#reader = new FrameReader(sink, memory);
    this.#initiation = initiate({
      local: want.machineKey,
      remotePublic: keyBytes(want.relayKey),
      prologue: prologueOf(stream.binding),
      ephemeral: keyPairOf(random(KEY_BYTES)),
    });
  }

  async login(): Promise<Welcome> {
    const { stream, clock } = this.#parts;
    const welcomed = new Promise<Welcome>((resolve) => {
      this.#welcomed = resolve;
    });
    stream.listen({
      data: (chunks) => {
        this.#heardAt = clock.now();
        this.#unansweredSince = undefined;
        this.#reader.push(chunks);
      },
      written: () => this.#outbox.written(clock.now()),
      closed: (reason) => this.end({ reason: `the connection to the relay ended: ${reason}` }),
    });
    this.note(encodeFrame(FRAME.initiation, this.#initiation.message));
    const settled = new AbortController();
    clock.sleep(LOGIN_TIMEOUT_MS, settled.signal).then(
      () => this.end({ reason: "the relay did not answer the login in time" }),
      () => undefined,
    );
    const result = await Promise.race([welcomed, this.ended]);
    settled.abort();
    if ("reason" in result) throw new Failure(result.refusal ?? "relay-unreachable", result.reason);
    void this.#keepAlive();
    return result;
  }

  send(type: number, to: Uint8Array, datagram: Uint8Array): void {
    if (!this.#in || datagram.length === 0 || datagram.length > PAYLOAD_BYTES_MAX) return;
    const body = KEY_BYTES + datagram.length;
    const frame = new Uint8Array(HEADER_BYTES + body);
    frame[0] = type;
    frame[1] = body >>> 8;
    frame[2] = body & 0xff;
    frame.set(to, HEADER_BYTES);
    frame.set(datagram, HEADER_BYTES + KEY_BYTES);
    this.#outbox.add(type === FRAME.probe ? "probe" : "data", frame, 1);
    this.#flush();
  }

  note(frame: Uint8Array): void {
    if (this.#over.signal.aborted) return;
    this.#outbox.add("note", frame, 1);
    this.#flush();
  }

  ping(): void {
    const { clock, random } = this.#parts;
    this.#asked = { ping: random(PING_BYTES), at: clock.now() };
    this.note(encodeFrame(FRAME.ping, this.#asked.ping));
  }

  look(): boolean {
    const since = this.#unansweredSince;
    if (since === undefined || this.#parts.clock.now() - since < ANSWER_MS) return false;
    if (this.#asked === undefined || this.#asked.at < since) this.ping();
    return true;
  }

  end(end: RelayEnd): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#in = false;
    this.#settle(this.#restarting === undefined ? end : { ...end, restarting: this.#restarting });
    this.#parts.stream.end();
  }

  #flush(): void {
    const now = this.#parts.clock.now();
    this.#unansweredSince ??= now;
    this.#outbox.flush(now);
  }

  async #keepAlive(): Promise<void> {
    const { clock } = this.#parts;
    while (!this.#over.signal.aborted) {
      this.ping();
      await clock.sleep(CLIENT_PING_EVERY_MS, this.#over.signal).catch(() => undefined);
      if (clock.now() - this.#heardAt >= RELAY_SILENCE_MAX_MS) this.end({ reason: "the relay fell silent" });
    }
  }

  #frame(type: number, buffer: Uint8Array, at: number, end: number): void {
    const bodyAt = at + HEADER_BYTES;
    if (type === FRAME.datagram || type === FRAME.probe) {
      if (!this.#in) return;
      const from = this.#names.at(buffer, bodyAt);
      const datagram = buffer.subarray(bodyAt + KEY_BYTES, end);
      if (type === FRAME.datagram) this.#events.onDatagram(from, datagram);
      else this.#events.onProbe(from, datagram);
      return;
    }
    const body = buffer.subarray(bodyAt, end);
    if (type === FRAME.reply) this.#reply(body);
    else if (type === FRAME.welcome) this.#welcome(body);
    else if (type === FRAME.ping) this.#outbox.add("note", encodeFrame(FRAME.pong, body), 1);
    else if (type === FRAME.pong) this.#pong(body);
    else if (type === FRAME.gone) this.#events.onGone(this.#names.at(body, 0));
    else if (type === FRAME.restarting) this.#restarting = decodeRestarting(body);
    else if (type === FRAME.refused) {
      const refusal = decodeRefused(body);
      const reason = `the relay refused: ${refusal ?? "for a reason this version does not know"}`;
      this.end(refusal === undefined ? { reason } : { reason, refusal });
    }
  }

  #reply(body: Uint8Array): void {
    if (this.#transport !== undefined) return;
    this.#transport = this.#initiation.finish(body);
    if (this.#transport === undefined) this.end({ reason: "what answered does not hold the relay's key" });
    else this.#outbox.add("note", encodeFrame(FRAME.login, this.#transport.seal(this.#admission)), 1);
  }

  #welcome(body: Uint8Array): void {
    const plaintext = this.#in ? undefined : this.#transport?.open(body);
    const welcome = plaintext === undefined ? undefined : decodeWelcome(plaintext);
    if (welcome === undefined) {
      this.end({ reason: "the relay's welcome was altered on the way" });
      return;
    }
    this.#in = true;
    this.#welcomed(welcome);
  }

  #pong(body: Uint8Array): void {
    const asked = this.#asked;
    if (asked === undefined || !asked.ping.every((byte, i) => byte === body[i])) return;
    this.#asked = undefined;
    this.#events.onRoundTrip(this.#parts.clock.now() - asked.at);
  }
}
