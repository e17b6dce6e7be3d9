import { concat } from "../kit/bytes.js";
import { STUN_COOKIE } from "../kit/datagramkind.js";

/**
 * The frame of STUN (RFC 8489 §5, §14), without the meaning of a message:
 *
 *   type          u16 BE   two zero bits, method and class
 *   length        u16 BE   of the attributes, a multiple of 4
 *   cookie        u32 BE   STUN_COOKIE
 *   transaction   12
 *   attributes    each: type u16, length u16, value, padding to a multiple of 4 (its bytes mean nothing)
 *
 * decodeFrame is strict about lengths and about a fingerprint that is there; it never throws.
 */

const STUN_HEADER_BYTES = 20;
export const STUN_TRANSACTION_BYTES = 12;
/** A binding message is about 100 bytes; nothing longer than the smallest IPv6 MTU is looked at. */
const STUN_BYTES_MAX = 1_280;
/** Far above what anybody sends; it bounds the work per datagram. */
const STUN_ATTRIBUTES_MAX = 32;

const FINGERPRINT = 0x8028;
const FINGERPRINT_XOR = 0x5354_554e;
const FINGERPRINT_BYTES = 8;

export type StunAttribute = { readonly type: number; readonly value: Uint8Array };
export type StunFrame = {
  readonly type: number;
  readonly transaction: Uint8Array;
  readonly attributes: readonly StunAttribute[];
};

/** With a fingerprint at the end (§14.7). */
export function encodeFrame({ type, transaction, attributes }: StunFrame): Uint8Array {
  const encoded = attributes.map(encodeAttribute);
  const head = new Uint8Array(STUN_HEADER_BYTES);
  const view = new DataView(head.buffer);
  view.setUint16(0, type);
  // The length that goes into the fingerprint counts the fingerprint itself.
  view.setUint16(2, encoded.reduce((sum, one) => sum + one.length, 0) + FINGERPRINT_BYTES);
  view.setUint32(4, STUN_COOKIE);
  head.set(transaction, 8);
  const covered = concat(head, ...encoded);
  return concat(covered, encodeAttribute({ type: FINGERPRINT, value: fingerprintOf(covered) }));
}

/** Undefined unless the datagram is exactly one STUN message. */
export function decodeFrame(datagram: Uint8Array): StunFrame | undefined {
  if (datagram.length < STUN_HEADER_BYTES || datagram.length > STUN_BYTES_MAX) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const type = view.getUint16(0);
  if (type > 0x3fff || view.getUint32(4) !== STUN_COOKIE) return undefined;
  if (view.getUint16(2) !== datagram.length - STUN_HEADER_BYTES || datagram.length % 4 !== 0) return undefined;
  const attributes: StunAttribute[] = [];
  for (let at = STUN_HEADER_BYTES; at < datagram.length; ) {
    const length = view.getUint16(at + 2);
    const end = at + 4 + length;
    if (end > datagram.length || attributes.length === STUN_ATTRIBUTES_MAX) return undefined;
    const attribute = { type: view.getUint16(at), value: datagram.slice(at + 4, end) };
    if (attribute.type === FINGERPRINT) {
      // §14.7: the last attribute, over everything before it.
      const wanted = fingerprintOf(datagram.subarray(0, at));
      if (end !== datagram.length || length !== 4 || wanted.some((byte, i) => attribute.value[i] !== byte))
        return undefined;
    }
    attributes.push(attribute);
    at = end + (-length & 3);
  }
  return { type, transaction: datagram.slice(8, STUN_HEADER_BYTES), attributes };
}

function encodeAttribute({ type, value }: StunAttribute): Uint8Array {
  const bytes = new Uint8Array(4 + value.length + (-value.length & 3));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type);
  view.setUint16(2, value.length);
  bytes.set(value, 4);
  return bytes;
}

function fingerprintOf(covered: Uint8Array): Uint8Array {
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, (crc32(covered) ^ FINGERPRINT_XOR) >>> 0);
  return value;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ 0xedb8_8320 : crc >>> 1;
  return crc;
});

/** ITU V.42 §8.1.1.6.2. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 0xff] ?? 0);
  return (crc ^ 0xffff_ffff) >>> 0;
}
