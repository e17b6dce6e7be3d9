import { utf8 } from "../../src/kit/bytes.js";
import { ed25519PublicKeyOf, hash, type KeyPair, keyPairOf } from "../../src/kit/crypto.js";
import { type Key, keyBytes, keyOf } from "../../src/kit/key.js";
import { type IssueAdmission, issueAdmission, verifyAdmission } from "../../src/wire/admission.js";
import { initiate, type Transport } from "../../src/wire/noise.js";
import { encodeFrame, FRAME, HEADER_BYTES, prologueOf } from "../../src/wire/relay.js";

/** Names instead of keys, and everything by its bytes. */
export const SIGNER = hash(utf8("coordinator's admission key"));
export const SIGNERS = [ed25519PublicKeyOf(SIGNER)];
export const RELAY_KEY = keyPairOf(hash(utf8("relay")));
export const WALL = 1_795_000_000_000;

export const machineOf = (name: string): KeyPair => keyPairOf(hash(utf8(`${name}'s machine`)));
export const addressOf = (name: string): Key => keyOf(keyPairOf(hash(utf8(`${name}'s tunnel`))).publicKey);

export function admissionOf(name: string, change: Partial<IssueAdmission> = {}, signer = SIGNER): Uint8Array {
  const machineKey = keyOf(machineOf(name).publicKey);
  return issueAdmission(signer, { machineKey, publicKey: addressOf(name), now: WALL, ...change });
}

export function verifiedOf(name: string, change: Partial<IssueAdmission> = {}) {
  const verified = verifyAdmission(admissionOf(name, change), SIGNERS, change.now ?? WALL);
  if (typeof verified === "string") throw new Error(verified);
  return verified;
}

/** Deterministic chance: every call gives other bytes. */
export function numbered(): (length: number) => Uint8Array {
  let calls = 0;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) bytes.set(hash(utf8(`chance ${calls++}`)).subarray(0, length - at), at);
    return bytes;
  };
}

export const datagramTo = (name: string, payload: Uint8Array, type: number = FRAME.datagram): Uint8Array =>
  encodeFrame(type, keyBytes(addressOf(name)), payload);

export type Heard = { readonly type: number; readonly body: Uint8Array };

/** The frames in a stretch of bytes, read by a second, slow reader. */
export function framesIn(bytes: Uint8Array): Heard[] {
  const frames: Heard[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const length = ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    frames.push({
      type: bytes[at] ?? 0,
      body: new Uint8Array(bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length)),
    });
    at += HEADER_BYTES + length;
  }
  return frames;
}

/** A device's side of the login, by hand. */
export function loginOf(name: string, binding?: Uint8Array, relayKey = RELAY_KEY.publicKey) {
  const initiation = initiate({
    local: machineOf(name),
    remotePublic: relayKey,
    prologue: prologueOf(binding),
    ephemeral: keyPairOf(hash(utf8(`${name}'s ephemeral`))),
  });
  return {
    first: encodeFrame(FRAME.initiation, initiation.message),
    finish: (reply: Uint8Array): Transport | undefined => initiation.finish(reply),
  };
}
