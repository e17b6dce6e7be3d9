import { dh, type KeyPair } from "../kit/crypto.js";
import { KEY_BYTES } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { ANSWER_MS, INITIATION_GAP_MS } from "./constants.js";
import { CookieJar } from "./cookie.js";
import type { Counters } from "./counters.js";
import {
  consumeResponse,
  createInitiation,
  createResponse,
  forget,
  type Initiated,
  type Remote,
  readInitiation,
  type Symmetric,
} from "./handshake.js";
import { Keypair } from "./keypairs.js";
import { type CookieReply, encodeMessage, type Initiation, type Response } from "./messages.js";
import { isLater, TAI64N_BYTES } from "./tai64n.js";

/** What a negotiation uses of its device. Indices stand for its peer: without a keypair, for a handshake of theirs. */
export type NegotiationParts = {
  readonly local: KeyPair;
  readonly counters: Counters;
  readonly indices: {
    take(): number;
    bind(index: number, keypair: Keypair): void;
    free(index: number): void;
  };
  random(length: number): Uint8Array;
  timestamp(): Uint8Array;
};

/** An initiation of ours that is under way. */
type Pending = {
  readonly initiated: Initiated;
  readonly index: number;
  readonly message: Initiation;
  readonly at: Millis;
};

/** §5.4: Q is zeros when there is none. */
const NO_PRESHARED_KEY = new Uint8Array(KEY_BYTES);
const LONG_AGO: Millis = Number.NEGATIVE_INFINITY;

/**
 * The handshakes with one peer, both ways (paper §5.4.2, §5.4.3): makes and reads their messages, keeps the one under
 * way and the greatest timestamp. When to begin one is the peer's affair, as is what to do with the session.
 *
 * An initiation of ours stays under way while we answer one of theirs: when both begin at once, both succeed.
 */
export class Negotiation {
  readonly #parts: NegotiationParts;
  readonly #jar: CookieJar;
  readonly #publicKey: Uint8Array;
  #presharedKey: Uint8Array = NO_PRESHARED_KEY;
  #known: Remote | undefined;
  #pending: Pending | undefined;
  #greatestTimestamp: Uint8Array = new Uint8Array(TAI64N_BYTES);
  #takenAt = LONG_AGO;

  constructor(publicKey: Uint8Array, parts: NegotiationParts) {
    this.#parts = parts;
    this.#jar = new CookieJar(publicKey);
    this.#publicKey = publicKey;
  }

  /** Made for the first handshake: of ten thousand peers few ever talk, and their secrets would take seconds at once. */
  get #remote(): Remote {
    const publicKey = this.#publicKey;
    this.#known ??= {
      publicKey,
      staticStatic: dh(this.#parts.local.privateKey, publicKey),
      presharedKey: this.#presharedKey,
    };
    return this.#known;
  }

  /** For the handshakes from now on; sessions live on. */
  setPresharedKey(presharedKey: Uint8Array = NO_PRESHARED_KEY): void {
    this.#presharedKey = presharedKey;
    if (this.#known !== undefined) this.#known = { ...this.#known, presharedKey };
  }

  /** A signed initiation, in place of any under way; undefined for a peer whose key is a low-order point. */
  initiate(now: Millis): Uint8Array | undefined {
    this.drop();
    const { local, counters, indices, random, timestamp } = this.#parts;
    const index = indices.take();
    const chance = { ephemeral: random(KEY_BYTES), sender: index, timestamp: timestamp() };
    const created = createInitiation(local, this.#remote, chance);
    if (created === undefined) {
      indices.free(index);
      counters.handshakesInvalid++;
      return undefined;
    }
    this.#pending = { initiated: created.initiated, index, message: created.message, at: now };
    return this.#signed(created.message, now);
  }

  /** The initiation under way once more, to be sent elsewhere; undefined when it should have been answered by now. */
  again(now: Millis): Uint8Array | undefined {
    const pending = this.#pending;
    return pending === undefined || now - pending.at >= ANSWER_MS ? undefined : this.#signed(pending.message, now);
  }

  /** Answers an initiation that `state` has read as far as its sender: the response, and the session it makes. */
  respond(
    message: Initiation,
    state: Symmetric,
    now: Millis,
  ): { readonly datagram: Uint8Array; readonly keypair: Keypair } | undefined {
    const { counters, indices, random } = this.#parts;
    const understood = readInitiation(state, this.#remote, message);
    if (understood === undefined) {
      counters.handshakesInvalid++;
      return undefined;
    }
    // §5.1: a replayed initiation must not tear down the session.
    if (!isLater(understood.timestamp, this.#greatestTimestamp) || now - this.#takenAt < INITIATION_GAP_MS) {
      counters.handshakesReplayed++;
      return undefined;
    }
    const index = indices.take();
    const created = createResponse(understood, this.#remote, { ephemeral: random(KEY_BYTES), sender: index });
    if (created === undefined) {
      indices.free(index);
      counters.handshakesInvalid++;
      return undefined;
    }
    this.#greatestTimestamp = understood.timestamp;
    this.#takenAt = now;
    const session = { localIndex: index, remoteIndex: understood.remoteIndex, isInitiator: false, madeAt: now };
    const keypair = new Keypair(created.keys, session);
    indices.bind(index, keypair);
    return { datagram: this.#signed(created.message, now), keypair };
  }

  /** The session of the handshake that this response completes. */
  complete(message: Response, now: Millis): Keypair | undefined {
    const { local, counters, indices } = this.#parts;
    const pending = this.#pending;
    if (pending === undefined || pending.index !== message.receiver) {
      counters.unknownIndex++;
      return undefined;
    }
    const keys = consumeResponse(local, this.#remote, pending.initiated, message);
    if (keys === undefined) {
      counters.handshakesInvalid++;
      return undefined;
    }
    this.#pending = undefined;
    const session = { localIndex: pending.index, remoteIndex: message.sender, isInitiator: true, madeAt: now };
    const keypair = new Keypair(keys, session);
    indices.bind(pending.index, keypair);
    return keypair;
  }

  takeCookie(message: CookieReply, now: Millis): void {
    if (!this.#jar.take(message, now)) this.#parts.counters.handshakesInvalid++;
  }

  /** Forgets the initiation under way. */
  drop(): void {
    if (this.#pending === undefined) return;
    forget(this.#pending.initiated);
    this.#parts.indices.free(this.#pending.index);
    this.#pending = undefined;
  }

  #signed(message: Initiation | Response, now: Millis): Uint8Array {
    const datagram = encodeMessage(message);
    this.#jar.sign(datagram, now);
    return datagram;
  }
}
