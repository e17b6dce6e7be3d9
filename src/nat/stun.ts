import { concat, fromUtf8, utf8 } from "../kit/bytes.js";
import { STUN_COOKIE } from "../kit/datagramkind.js";
import type { Endpoint } from "../kit/endpoint.js";
import { familyOf, ipBytes, ipFromBytes } from "../kit/ip.js";
import { decodeFrame, encodeFrame, type StunAttribute, type StunFrame } from "./stunmessage.js";

/**
 * STUN's binding method (RFC 8489), both sides: a device asks "where do I seem to be?", a server answers. Decoders are
 * strict and never throw: undefined is for what is not such a message, and is to be dropped. MESSAGE-INTEGRITY is not
 * checked: a mapped address is believed only after a probe has come through it.
 */

const BINDING_REQUEST = 0x0001;
const BINDING_SUCCESS = 0x0101;
const BINDING_ERROR = 0x0111;

// §18.3; below 0x8000 a receiver must understand an attribute or refuse the message.
const MAPPED_ADDRESS = 0x0001;
const USERNAME = 0x0006;
const MESSAGE_INTEGRITY = 0x0008;
const ERROR_CODE = 0x0009;
const UNKNOWN_ATTRIBUTES = 0x000a;
const REALM = 0x0014;
const NONCE = 0x0015;
const MESSAGE_INTEGRITY_SHA256 = 0x001c;
const XOR_MAPPED_ADDRESS = 0x0020;
const COMPREHENSION_OPTIONAL = 0x8000;
const SOFTWARE = 0x8022;
const UNDERSTOOD = new Set([
  MAPPED_ADDRESS,
  USERNAME,
  MESSAGE_INTEGRITY,
  ERROR_CODE,
  UNKNOWN_ATTRIBUTES,
  REALM,
  NONCE,
  MESSAGE_INTEGRITY_SHA256,
  XOR_MAPPED_ADDRESS,
]);
/** §14.14: fewer than 128 characters, each of at most 6 bytes. */
const SOFTWARE_BYTES_MAX = 763;

export type StunRequest = {
  readonly transaction: Uint8Array;
  readonly software: string | undefined;
  /** Attributes the sender insists on and we do not know: the answer is then error 420 (§6.3.1). */
  readonly unknown: readonly number[];
};

export type StunAnswer =
  | {
      readonly kind: "success";
      readonly transaction: Uint8Array;
      readonly mapped: Endpoint;
      readonly software: string | undefined;
    }
  | {
      readonly kind: "error";
      readonly transaction: Uint8Array;
      readonly code: number;
      readonly reason: string;
      readonly software: string | undefined;
    };

export function encodeStunRequest(transaction: Uint8Array): Uint8Array {
  return encodeFrame({ type: BINDING_REQUEST, transaction, attributes: [] });
}

export function decodeStunRequest(datagram: Uint8Array): StunRequest | undefined {
  const frame = decodeFrame(datagram);
  if (frame === undefined || frame.type !== BINDING_REQUEST) return undefined;
  return { transaction: frame.transaction, software: softwareOf(frame), unknown: unknownOf(frame) };
}

/**
 * What a server answers to a request that came from `from`: success, or 420 for what it does not understand. Never
 * longer than 3 times the smallest request, so a server is no lever for a flood.
 */
export function encodeStunResponse(request: StunRequest, from: Endpoint): Uint8Array {
  const { transaction } = request;
  if (request.unknown.length > 0) {
    const unknown = request.unknown.slice(0, UNKNOWN_TOLD_MAX);
    const attributes = [errorAttribute(420, "Unknown Attribute"), { type: UNKNOWN_ATTRIBUTES, value: u16s(unknown) }];
    return encodeFrame({ type: BINDING_ERROR, transaction, attributes });
  }
  const value = mapAddress(from, transaction);
  return encodeFrame({ type: BINDING_SUCCESS, transaction, attributes: [{ type: XOR_MAPPED_ADDRESS, value }] });
}

const UNKNOWN_TOLD_MAX = 4;

export function decodeStunAnswer(datagram: Uint8Array): StunAnswer | undefined {
  const frame = decodeFrame(datagram);
  if (frame === undefined) return undefined;
  const { transaction } = frame;
  const software = softwareOf(frame);
  if (frame.type === BINDING_ERROR) {
    const error = parseError(find(frame, ERROR_CODE));
    return error === undefined ? undefined : { kind: "error", transaction, ...error, software };
  }
  // §6.3.3: a success with something we do not understand is discarded.
  if (frame.type !== BINDING_SUCCESS || unknownOf(frame).length > 0) return undefined;
  const mapped =
    parseAddress(find(frame, XOR_MAPPED_ADDRESS), transaction) ??
    // §6.3.3 and RFC 3489: what servers older than the XOR say.
    parseAddress(find(frame, MAPPED_ADDRESS), undefined);
  return mapped === undefined ? undefined : { kind: "success", transaction, mapped, software };
}

const find = (frame: StunFrame, type: number): Uint8Array | undefined =>
  frame.attributes.find((attribute) => attribute.type === type)?.value;

function unknownOf(frame: StunFrame): number[] {
  const types = frame.attributes.map(({ type }) => type);
  return [...new Set(types.filter((type) => type < COMPREHENSION_OPTIONAL && !UNDERSTOOD.has(type)))];
}

function softwareOf(frame: StunFrame): string | undefined {
  const value = find(frame, SOFTWARE);
  return value === undefined || value.length > SOFTWARE_BYTES_MAX ? undefined : fromUtf8(value);
}

/** §14.8: 21 zero bits, the class (hundreds) in 3, the number in 8, the reason. */
function parseError(value: Uint8Array | undefined): { code: number; reason: string } | undefined {
  if (value === undefined || value.length < 4) return undefined;
  const [, , hundreds = 0, number = 0] = value;
  const reason = fromUtf8(value.subarray(4));
  if (hundreds < 3 || hundreds > 6 || number > 99 || reason === undefined) return undefined;
  return { code: hundreds * 100 + number, reason };
}

function errorAttribute(code: number, reason: string): StunAttribute {
  const head = Uint8Array.of(0, 0, Math.floor(code / 100), code % 100);
  return { type: ERROR_CODE, value: concat(head, utf8(reason)) };
}

const u16s = (numbers: readonly number[]): Uint8Array =>
  Uint8Array.from(numbers.flatMap((number) => [number >> 8, number & 0xff]));

/** §14.2: a zero, the family, the port XORed with the cookie's high half, the address with cookie and transaction. */
function mapAddress({ address, port }: Endpoint, transaction: Uint8Array): Uint8Array {
  const mask = maskOf(transaction);
  const masked = ipBytes(address).map((byte, i) => byte ^ (mask[i] ?? 0));
  const maskedPort = port ^ (STUN_COOKIE >>> 16);
  return concat(Uint8Array.of(0, familyOf(address) === 4 ? 1 : 2, maskedPort >> 8, maskedPort & 0xff), masked);
}

/** With a transaction: XOR-MAPPED-ADDRESS; without: MAPPED-ADDRESS (§14.1). */
function parseAddress(value: Uint8Array | undefined, transaction: Uint8Array | undefined): Endpoint | undefined {
  if (value === undefined) return undefined;
  const [, family = 0, high = 0, low = 0] = value;
  if (!(family === 1 && value.length === 8) && !(family === 2 && value.length === 20)) return undefined;
  const mask = transaction === undefined ? undefined : maskOf(transaction);
  const port = ((high << 8) | low) ^ (mask === undefined ? 0 : STUN_COOKIE >>> 16);
  if (port === 0) return undefined;
  return { address: ipFromBytes(value.slice(4).map((byte, i) => byte ^ (mask?.[i] ?? 0))), port };
}

function maskOf(transaction: Uint8Array): Uint8Array {
  const cookie = new Uint8Array(4);
  new DataView(cookie.buffer).setUint32(0, STUN_COOKIE);
  return concat(cookie, transaction);
}
