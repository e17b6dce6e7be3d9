/**
 * WireGuard's four messages (paper §5.4.2, §5.4.3, §5.4.6, §5.4.7). Integers are little-endian. Lengths are exact,
 * the three bytes after the type must be zero; anything else decodes to undefined.
 *
 *   Initiation, 148 bytes          Response, 92 bytes            Cookie reply, 64 bytes
 *     0  u8 1, 3 × zero              0  u8 2, 3 × zero             0  u8 3, 3 × zero
 *     4  u32 sender index            4  u32 sender index           4  u32 receiver index
 *     8  32  ephemeral               8  u32 receiver index         8  24  nonce
 *    40  48  static, sealed         12  32  ephemeral             32  32  cookie, sealed
 *    88  28  timestamp, sealed      44  16  nothing, sealed
 *   116  16  mac1                   60  16  mac1                 Transport, 32 bytes and up
 *   132  16  mac2                   76  16  mac2                   0  u8 4, 3 × zero
 *                                                                  4  u32 receiver index
 *                                                                  8  u64 counter
 *                                                                 16  packet with padding, sealed
 */

export const TYPE_INITIATION = 1;
export const TYPE_RESPONSE = 2;
export const TYPE_COOKIE_REPLY = 3;
export const TYPE_TRANSPORT = 4;
export const INITIATION_BYTES = 148;
export const RESPONSE_BYTES = 92;
const COOKIE_REPLY_BYTES = 64;
export const TRANSPORT_HEADER_BYTES = 16;
/** The header and the tag of an empty plaintext: a keepalive. */
export const TRANSPORT_BYTES_MIN = TRANSPORT_HEADER_BYTES + 16;

export type Initiation = {
  readonly type: typeof TYPE_INITIATION;
  readonly sender: number;
  readonly ephemeral: Uint8Array;
  readonly sealedStatic: Uint8Array;
  readonly sealedTimestamp: Uint8Array;
  readonly mac1: Uint8Array;
  readonly mac2: Uint8Array;
};

export type Response = {
  readonly type: typeof TYPE_RESPONSE;
  readonly sender: number;
  readonly receiver: number;
  readonly ephemeral: Uint8Array;
  readonly sealedNothing: Uint8Array;
  readonly mac1: Uint8Array;
  readonly mac2: Uint8Array;
};

export type CookieReply = {
  readonly type: typeof TYPE_COOKIE_REPLY;
  readonly receiver: number;
  readonly nonce: Uint8Array;
  readonly sealedCookie: Uint8Array;
};

/** The 64-bit counter is kept as two halves: a bigint would be an allocation for every packet. */
export type Transport = {
  readonly type: typeof TYPE_TRANSPORT;
  readonly receiver: number;
  readonly counterHigh: number;
  readonly counterLow: number;
  readonly sealed: Uint8Array;
};

export type Message = Initiation | Response | CookieReply | Transport;

export function encodeMessage(message: Message): Uint8Array {
  switch (message.type) {
    case TYPE_INITIATION:
      return write(INITIATION_BYTES, message.type, [message.sender], 8, [
        message.ephemeral,
        message.sealedStatic,
        message.sealedTimestamp,
        message.mac1,
        message.mac2,
      ]);
    case TYPE_RESPONSE:
      return write(RESPONSE_BYTES, message.type, [message.sender, message.receiver], 12, [
        message.ephemeral,
        message.sealedNothing,
        message.mac1,
        message.mac2,
      ]);
    case TYPE_COOKIE_REPLY:
      return write(COOKIE_REPLY_BYTES, message.type, [message.receiver], 8, [message.nonce, message.sealedCookie]);
    case TYPE_TRANSPORT: {
      const bytes = new Uint8Array(TRANSPORT_HEADER_BYTES + message.sealed.length);
      writeTransportHeader(bytes, message.receiver, message.counterHigh, message.counterLow);
      bytes.set(message.sealed, TRANSPORT_HEADER_BYTES);
      return bytes;
    }
  }
}

/** Views into `bytes`, not copies. Undefined for anything that is not exactly one of the four messages. */
export function decodeMessage(bytes: Uint8Array): Message | undefined {
  if (bytes.length < TRANSPORT_BYTES_MIN || bytes[1] !== 0 || bytes[2] !== 0 || bytes[3] !== 0) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  switch (bytes[0]) {
    case TYPE_INITIATION:
      if (bytes.length !== INITIATION_BYTES) return undefined;
      return {
        type: TYPE_INITIATION,
        sender: view.getUint32(4, true),
        ephemeral: bytes.subarray(8, 40),
        sealedStatic: bytes.subarray(40, 88),
        sealedTimestamp: bytes.subarray(88, 116),
        mac1: bytes.subarray(116, 132),
        mac2: bytes.subarray(132, 148),
      };
    case TYPE_RESPONSE:
      if (bytes.length !== RESPONSE_BYTES) return undefined;
      return {
        type: TYPE_RESPONSE,
        sender: view.getUint32(4, true),
        receiver: view.getUint32(8, true),
        ephemeral: bytes.subarray(12, 44),
        sealedNothing: bytes.subarray(44, 60),
        mac1: bytes.subarray(60, 76),
        mac2: bytes.subarray(76, 92),
      };
    case TYPE_COOKIE_REPLY:
      if (bytes.length !== COOKIE_REPLY_BYTES) return undefined;
      return {
        type: TYPE_COOKIE_REPLY,
        receiver: view.getUint32(4, true),
        nonce: bytes.subarray(8, 32),
        sealedCookie: bytes.subarray(32, 64),
      };
    case TYPE_TRANSPORT:
      return {
        type: TYPE_TRANSPORT,
        receiver: view.getUint32(4, true),
        counterLow: view.getUint32(8, true),
        counterHigh: view.getUint32(12, true),
        sealed: bytes.subarray(TRANSPORT_HEADER_BYTES),
      };
    default:
      return undefined;
  }
}

/** The first sixteen bytes of a transport message, into a datagram that is sealed in place. */
export function writeTransportHeader(into: Uint8Array, receiver: number, high: number, low: number): void {
  const view = new DataView(into.buffer, into.byteOffset, TRANSPORT_HEADER_BYTES);
  view.setUint32(0, TYPE_TRANSPORT, true);
  view.setUint32(4, receiver, true);
  view.setUint32(8, low, true);
  view.setUint32(12, high, true);
}

function write(
  length: number,
  type: number,
  indices: readonly number[],
  at: number,
  fields: readonly Uint8Array[],
): Uint8Array {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  for (const [i, index] of indices.entries()) view.setUint32(4 + 4 * i, index, true);
  for (const field of fields) {
    bytes.set(field, at);
    at += field.length;
  }
  return bytes;
}
