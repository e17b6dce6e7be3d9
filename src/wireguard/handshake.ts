import { utf8 } from "../kit/bytes.js";
import { dh, hash, type KeyPair, kdf, keyPairOf, open, seal } from "../kit/crypto.js";
import { CONSTRUCTION, IDENTIFIER, MAC_BYTES } from "./constants.js";
import { type Initiation, type Response, TYPE_INITIATION, TYPE_RESPONSE } from "./messages.js";

/**
 * Noise_IKpsk2 as WireGuard uses it (paper §5.4.2 to §5.4.5), both roles. Every function either succeeds or returns
 * undefined: a message that does not decrypt and a low-order point are weather. Macs are left zero, cookie.ts signs.
 *
 *   Initiator                                Responder
 *     createInitiation ── Initiation ──►       readInitiation
 *     consumeResponse  ◄─── Response ───       createResponse
 *     sessionKeys                              sessionKeys
 */

/** Who a peer is to us. `staticStatic` is DH of both static keys, computed once; undefined for a low-order key. */
export type Remote = {
  readonly publicKey: Uint8Array;
  readonly staticStatic: Uint8Array | undefined;
  /** Q in the paper; 32 zero bytes when there is none (§5.4). */
  readonly presharedKey: Uint8Array;
};

/** An initiation on its way, until its response comes. */
export type Initiated = { readonly state: Symmetric; readonly ephemeral: KeyPair };

/** An initiation as its receiver understood it. */
export type Understood = {
  readonly state: Symmetric;
  readonly remoteIndex: number;
  readonly remoteEphemeral: Uint8Array;
  readonly timestamp: Uint8Array;
};

/** The two transport keys, named for the side that holds them. */
export type SessionKeys = { readonly sendKey: Uint8Array; readonly receiveKey: Uint8Array };

const INITIAL_CHAINING_KEY = hash(utf8(CONSTRUCTION));
const INITIAL_HASH = hash(INITIAL_CHAINING_KEY, utf8(IDENTIFIER));
const NOTHING = new Uint8Array(0);
const UNSIGNED = new Uint8Array(MAC_BYTES);

export function createInitiation(
  local: KeyPair,
  remote: Remote,
  chance: { readonly ephemeral: Uint8Array; readonly sender: number; readonly timestamp: Uint8Array },
): { initiated: Initiated; message: Initiation } | undefined {
  // §5.4.2, line by line.
  const ephemeral = keyPairOf(chance.ephemeral);
  const state = new Symmetric(remote.publicKey);
  state.mixHash(ephemeral.publicKey);
  state.mixKey(ephemeral.publicKey);
  if (!state.mixSecret(dh(ephemeral.privateKey, remote.publicKey))) return undefined;
  const sealedStatic = state.seal(local.publicKey);
  if (!state.mixSecret(remote.staticStatic)) return undefined;
  const sealedTimestamp = state.seal(chance.timestamp);
  return {
    initiated: { state, ephemeral },
    message: {
      type: TYPE_INITIATION,
      sender: chance.sender,
      ephemeral: ephemeral.publicKey,
      sealedStatic,
      sealedTimestamp,
      mac1: UNSIGNED,
      mac2: UNSIGNED,
    },
  };
}

/** The first half of §5.4.2 on the responder's side: who is it? The answer is not yet proven. */
export function readInitiator(
  local: KeyPair,
  message: Initiation,
): { state: Symmetric; publicKey: Uint8Array } | undefined {
  const state = new Symmetric(local.publicKey);
  state.mixHash(message.ephemeral);
  state.mixKey(message.ephemeral);
  if (!state.mixSecret(dh(local.privateKey, message.ephemeral))) return undefined;
  const publicKey = state.open(message.sealedStatic);
  return publicKey === undefined ? undefined : { state, publicKey };
}

/** The second half of §5.4.2: the timestamp decrypts only if the sender holds the peer's private key. */
export function readInitiation(state: Symmetric, remote: Remote, message: Initiation): Understood | undefined {
  if (!state.mixSecret(remote.staticStatic)) return undefined;
  const timestamp = state.open(message.sealedTimestamp);
  if (timestamp === undefined) return undefined;
  // Copied: the message is a view of a datagram, which its reader may use again.
  return { state, remoteIndex: message.sender, remoteEphemeral: message.ephemeral.slice(), timestamp };
}

export function createResponse(
  understood: Understood,
  remote: Remote,
  chance: { readonly ephemeral: Uint8Array; readonly sender: number },
): { keys: SessionKeys; message: Response } | undefined {
  // §5.4.3, line by line.
  const { state, remoteEphemeral } = understood;
  const ephemeral = keyPairOf(chance.ephemeral);
  state.mixHash(ephemeral.publicKey);
  state.mixKey(ephemeral.publicKey);
  if (!state.mixSecret(dh(ephemeral.privateKey, remoteEphemeral))) return undefined;
  if (!state.mixSecret(dh(ephemeral.privateKey, remote.publicKey))) return undefined;
  ephemeral.privateKey.fill(0);
  state.mixPresharedKey(remote.presharedKey);
  const sealedNothing = state.seal(NOTHING);
  return {
    keys: responderKeys(state),
    message: {
      type: TYPE_RESPONSE,
      sender: chance.sender,
      receiver: understood.remoteIndex,
      ephemeral: ephemeral.publicKey,
      sealedNothing,
      mac1: UNSIGNED,
      mac2: UNSIGNED,
    },
  };
}

/** `initiated` is left as it was when this fails: a forged response must not spoil the true one. */
export function consumeResponse(
  local: KeyPair,
  remote: Remote,
  initiated: Initiated,
  message: Response,
): SessionKeys | undefined {
  const state = initiated.state.clone();
  state.mixHash(message.ephemeral);
  state.mixKey(message.ephemeral);
  if (!state.mixSecret(dh(initiated.ephemeral.privateKey, message.ephemeral))) return undefined;
  if (!state.mixSecret(dh(local.privateKey, message.ephemeral))) return undefined;
  state.mixPresharedKey(remote.presharedKey);
  if (state.open(message.sealedNothing) === undefined) return undefined;
  forget(initiated);
  const { sendKey, receiveKey } = responderKeys(state);
  return { sendKey: receiveKey, receiveKey: sendKey };
}

/** §5.4.5: handshake secrets do not outlive the handshake. */
export function forget(initiated: Initiated): void {
  initiated.state.forget();
  initiated.ephemeral.privateKey.fill(0);
}

// §5.4.5: the first output is the initiator's sending key.
function responderKeys(state: Symmetric): SessionKeys {
  const [receiveKey, sendKey] = kdf(state.chainingKey, NOTHING);
  state.forget();
  return { sendKey, receiveKey };
}

/** The chaining key C, the hash H and the key κ of §5.4: what both sides advance in step. */
export class Symmetric {
  chainingKey: Uint8Array = INITIAL_CHAINING_KEY.slice();
  #hash: Uint8Array;
  #key: Uint8Array = NOTHING;

  /** Both sides begin with the responder's static key (§5.4.2). */
  constructor(responder: Uint8Array) {
    this.#hash = hash(INITIAL_HASH, responder);
  }

  clone(): Symmetric {
    const copy = new Symmetric(NOTHING);
    copy.chainingKey = this.chainingKey.slice();
    copy.#hash = this.#hash;
    copy.#key = this.#key.slice();
    return copy;
  }

  mixHash(bytes: Uint8Array): void {
    this.#hash = hash(this.#hash, bytes);
  }

  /** C := KDF1(C, bytes). */
  mixKey(bytes: Uint8Array): void {
    [this.chainingKey] = kdf(this.chainingKey, bytes);
  }

  /** (C, κ) := KDF2(C, secret); false for the secret that a low-order point has no part in. */
  mixSecret(secret: Uint8Array | undefined): boolean {
    if (secret === undefined) return false;
    [this.chainingKey, this.#key] = kdf(this.chainingKey, secret);
    return true;
  }

  /** (C, τ, κ) := KDF3(C, Q), and τ into H (§5.4.3). */
  mixPresharedKey(presharedKey: Uint8Array): void {
    const [chainingKey, temporary, key] = kdf(this.chainingKey, presharedKey);
    this.chainingKey = chainingKey;
    this.#key = key;
    this.mixHash(temporary);
  }

  /** The counter is always 0: κ is new before every use. */
  seal(plaintext: Uint8Array): Uint8Array {
    const sealed = seal(this.#key, 0n, plaintext, this.#hash);
    this.mixHash(sealed);
    return sealed;
  }

  open(sealed: Uint8Array): Uint8Array | undefined {
    const plaintext = open(this.#key, 0n, sealed, this.#hash);
    if (plaintext !== undefined) this.mixHash(sealed);
    return plaintext;
  }

  forget(): void {
    this.chainingKey.fill(0);
    this.#key.fill(0);
  }
}
