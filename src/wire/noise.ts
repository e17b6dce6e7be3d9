import { assert } from "../kit/assert.js";
import { concat, utf8 } from "../kit/bytes.js";
import { dh, hash, type KeyPair, kdf, open, seal, TAG_BYTES } from "../kit/crypto.js";
import { Failure } from "../kit/failure.js";
import { KEY_BYTES } from "../kit/key.js";

/**
 * Noise_IK_25519_ChaChaPoly_BLAKE2s (Noise Protocol Framework, revision 34), without payloads in the handshake:
 *
 *   IK:  <- s                  the initiator knows the responder's static key
 *        ...
 *        -> e, es, s, ss       e 32 | encrypted s 48 | empty payload's tag 16       INITIATION_BYTES
 *        <- e, ee, se          e 32 | empty payload's tag 16                        REPLY_BYTES
 *
 * Then transport messages: ciphertext and tag 16, counters implicit, so messages must arrive in order.
 *
 * What the first message proves is not fresh (§7.7: it can be replayed), so a responder believes the initiator is
 * there when the first transport message opens. One deviation: §3 limits a message to 65535 bytes, so that its length
 * fits two bytes; here the WebSocket frame carries the length, and MESSAGE_BYTES_MAX of control.ts is the limit.
 */
export const INITIATION_BYTES = KEY_BYTES + (KEY_BYTES + TAG_BYTES) + TAG_BYTES;
export const REPLY_BYTES = KEY_BYTES + TAG_BYTES;

/** Messages under one key; then both ends turn it (§11.3), so that a stolen key opens no earlier message. */
export const REKEY_MESSAGES = 1n << 16n;
/** §5.1: 2^64-1 is reserved for the rekey itself. A session this long is ended instead. */
const NONCE_RESERVED = (1n << 64n) - 1n;

const PROTOCOL_NAME = utf8("Noise_IK_25519_ChaChaPoly_BLAKE2s");
const EMPTY = new Uint8Array(0);

/** Both directions of an established session. */
export type Transport = {
  seal(plaintext: Uint8Array): Uint8Array;
  /** Undefined when the message was altered, replayed or is out of order: the session is then over. */
  open(ciphertext: Uint8Array): Uint8Array | undefined;
};

export type Initiation = {
  readonly message: Uint8Array;
  /** Undefined when the reply is not the responder's answer to this very message. */
  finish(reply: Uint8Array): Transport | undefined;
};

export type Initiate = {
  readonly local: KeyPair;
  readonly remotePublic: Uint8Array;
  readonly prologue: Uint8Array;
  /** Made for this handshake and never used again. */
  readonly ephemeral: KeyPair;
};

/** Starts a session with the holder of `remotePublic`. */
export function initiate({ local, remotePublic, prologue, ephemeral }: Initiate): Initiation {
  const state = new Symmetric(prologue, remotePublic);
  state.mixHash(ephemeral.publicKey); // e
  const mixed = state.mixKey(dh(ephemeral.privateKey, remotePublic)); // es
  const sealedStatic = mixed ? state.encryptAndHash(local.publicKey) : undefined; // s
  if (sealedStatic === undefined || !state.mixKey(dh(local.privateKey, remotePublic)))
    // ss
    throw new Failure("key-invalid", "the coordinator's public key is not a usable X25519 key (it has a low order)");
  const message = concat(ephemeral.publicKey, sealedStatic, state.encryptAndHash(EMPTY));
  return {
    message,
    finish(reply) {
      if (reply.length !== REPLY_BYTES) return undefined;
      // A reply that fails leaves the state as it was: the genuine one may still come.
      const attempt = state.copy();
      const remoteEphemeral = reply.subarray(0, KEY_BYTES);
      attempt.mixHash(remoteEphemeral); // e
      if (!attempt.mixKey(dh(ephemeral.privateKey, remoteEphemeral))) return undefined; // ee
      if (!attempt.mixKey(dh(local.privateKey, remoteEphemeral))) return undefined; // se
      if (attempt.decryptAndHash(reply.subarray(KEY_BYTES)) === undefined) return undefined;
      const [toResponder, toInitiator] = attempt.split();
      return transport(toResponder, toInitiator);
    },
  };
}

export type Respond = {
  readonly local: KeyPair;
  readonly prologue: Uint8Array;
  readonly ephemeral: KeyPair;
  readonly message: Uint8Array;
};

export type Response = {
  /** The initiator's static key. */
  readonly remotePublic: Uint8Array;
  readonly reply: Uint8Array;
  readonly transport: Transport;
};

/** Answers an initiation; undefined when it was not made for this key and prologue, or by a key of low order. */
export function respond({ local, prologue, ephemeral, message }: Respond): Response | undefined {
  if (message.length !== INITIATION_BYTES) return undefined;
  const state = new Symmetric(prologue, local.publicKey);
  const remoteEphemeral = message.subarray(0, KEY_BYTES);
  const sealedStatic = message.subarray(KEY_BYTES, KEY_BYTES + KEY_BYTES + TAG_BYTES);
  state.mixHash(remoteEphemeral); // e
  if (!state.mixKey(dh(local.privateKey, remoteEphemeral))) return undefined; // es
  const remotePublic = state.decryptAndHash(sealedStatic); // s
  if (remotePublic === undefined) return undefined;
  if (!state.mixKey(dh(local.privateKey, remotePublic))) return undefined; // ss
  if (state.decryptAndHash(message.subarray(KEY_BYTES + sealedStatic.length)) === undefined) return undefined;

  state.mixHash(ephemeral.publicKey); // e
  if (!state.mixKey(dh(ephemeral.privateKey, remoteEphemeral))) return undefined; // ee
  if (!state.mixKey(dh(ephemeral.privateKey, remotePublic))) return undefined; // se
  const reply = concat(ephemeral.publicKey, state.encryptAndHash(EMPTY));
  const [toResponder, toInitiator] = state.split();
  return { remotePublic, reply, transport: transport(toInitiator, toResponder) };
}

/** The SymmetricState of §5.2 with the CipherState of §5.1 inside. */
class Symmetric {
  #chainingKey: Uint8Array;
  #hash: Uint8Array;
  #key: Uint8Array = EMPTY;
  #nonce = 0n;

  constructor(prologue: Uint8Array, responderStatic: Uint8Array) {
    this.#hash = hash(PROTOCOL_NAME); // §5.2 InitializeSymmetric: the name is longer than HASHLEN, so it is hashed
    this.#chainingKey = this.#hash;
    this.mixHash(prologue); // §5.3 Initialize
    this.mixHash(responderStatic); // §7.3: the pre-message "<- s"
  }

  copy(): Symmetric {
    const copy = new Symmetric(EMPTY, EMPTY);
    copy.#chainingKey = this.#chainingKey;
    copy.#hash = this.#hash;
    copy.#key = this.#key;
    copy.#nonce = this.#nonce;
    return copy;
  }

  mixHash(data: Uint8Array): void {
    this.#hash = hash(this.#hash, data);
  }

  /** False when the shared secret is missing: all zero, because the other key has a low order (§12.1). */
  mixKey(shared: Uint8Array | undefined): boolean {
    if (shared === undefined) return false;
    const [chainingKey, key] = kdf(this.#chainingKey, shared);
    this.#chainingKey = chainingKey;
    this.#key = key;
    this.#nonce = 0n;
    return true;
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = seal(this.#key, this.#nonce++, plaintext, this.#hash);
    this.mixHash(ciphertext);
    return ciphertext;
  }

  decryptAndHash(ciphertext: Uint8Array): Uint8Array | undefined {
    const plaintext = open(this.#key, this.#nonce++, ciphertext, this.#hash);
    this.mixHash(ciphertext);
    return plaintext;
  }

  /** §5.2 Split: first the initiator's sending key, then the responder's. */
  split(): [Uint8Array, Uint8Array] {
    const [first, second] = kdf(this.#chainingKey, EMPTY);
    return [first, second];
  }
}

function transport(sendKey: Uint8Array, receiveKey: Uint8Array): Transport {
  const sending = new Direction(sendKey);
  const receiving = new Direction(receiveKey);
  let broken = false;
  return {
    seal: (plaintext) => sending.turn((key, nonce) => seal(key, nonce, plaintext, EMPTY)),
    open(ciphertext) {
      if (broken) return undefined;
      const plaintext = receiving.turn((key, nonce) => open(key, nonce, ciphertext, EMPTY));
      broken = plaintext === undefined;
      return plaintext;
    },
  };
}

/** A CipherState (§5.1) that turns its key every REKEY_MESSAGES. */
class Direction {
  #key: Uint8Array;
  #nonce = 0n;

  constructor(key: Uint8Array) {
    this.#key = key;
  }

  turn<T>(use: (key: Uint8Array, nonce: bigint) => T): T {
    assert(this.#nonce < NONCE_RESERVED, "no session lasts 2^64 messages");
    const result = use(this.#key, this.#nonce++);
    // §4.2 REKEY and §11.3: the nonce goes on.
    if (this.#nonce % REKEY_MESSAGES === 0n)
      this.#key = seal(this.#key, NONCE_RESERVED, new Uint8Array(KEY_BYTES), EMPTY).subarray(0, KEY_BYTES);
    return result;
  }
}
