import { concat, utf8 } from "../kit/bytes.js";
import { KEY_BYTES } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import { ADMISSION_BYTES } from "./admission.js";

/**
 * What devices and a relay say to each other inside TLS, after `Upgrade: exitnode-relay` at RELAY_PATH (or as the bytes of a
 * WebSocket's messages, where only that gets through).
 *
 *   frame       0  u8   type
 *               1  u16  length of the body, at most BODY_BYTES_MAX; a longer one ends the connection
 *               3  body
 *
 *   01 initiation   device → relay   Noise IK, first message (INITIATION_BYTES of noise.ts)
 *   02 reply        relay → device   Noise IK, second message
 *   03 login        device → relay   admission of admission.ts, sealed by the Noise transport
 *   04 welcome      relay → device   sealed: u8 version 1, u32 ms between the relay's pings, the device's address in ASCII
 *   05 refused      relay → device   u8 index into RELAY_REFUSALS; the relay then closes
 *   06 renewal      device → relay   a newer admission, for the same machine key
 *   10 datagram     key 32, payload  the key is the receiver's on the way in and the sender's on the way out
 *   11 probe        key 32, payload  the same with a queue of its own: a full data queue delays no probe
 *   20 ping, 21 pong   8 bytes, returned as they came; either end asks
 *   22 gone         relay → device   key 32: nobody with this key is here
 *   23 restarting   relay → device   u32 ms to wait before dialing again, u32 ms to spread the dialing over
 *   24 dial back    device → relay   u16 port, 16 token: send DIAL_BACK to this port of my own address
 *
 * After the welcome nothing is sealed a second time: TLS hides it, the payload is WireGuard's ciphertext, and the Noise
 * prologue holds the TLS connection's exporter value (RFC 9266), so that whoever decrypts the TLS in between cannot log in.
 * A type that a reader does not know is passed over; a body of the wrong length is counted and passed over.
 */
export const FRAME = {
  initiation: 0x01,
  reply: 0x02,
  login: 0x03,
  welcome: 0x04,
  refused: 0x05,
  renewal: 0x06,
  datagram: 0x10,
  probe: 0x11,
  ping: 0x20,
  pong: 0x21,
  gone: 0x22,
  restarting: 0x23,
  dialBack: 0x24,
} as const;

export const RELAY_PATH = "/relay";
export const REVOKE_PATH = "/revoke";
export const RELAY_PROTOCOL = "exitnode-relay";
/** The device's prologue holds the exporter value: sent as `Exitnode-Binding: exporter` with the upgrade. */
export const BINDING_HEADER = "exitnode-binding";
const RELAY_PROLOGUE = "exitnode relay 1";

export const HEADER_BYTES = 3;
/** The longest tunnel MTU (9000) with WireGuard's own 32 bytes and its padding, with room. */
export const PAYLOAD_BYTES_MAX = 9_216;
export const BODY_BYTES_MAX = KEY_BYTES + PAYLOAD_BYTES_MAX;
export const PING_BYTES = 8;
export const DIAL_BACK_TOKEN_BYTES = 16;
/** "EXND" as probes begin, 0x44, token 16: what a relay sends to a mapped port that it was asked to try. */
export const DIAL_BACK_TYPE = 0x44;

/** Both ends end a connection over which they heard nothing for so long. */
export const RELAY_SILENCE_MAX_MS: Millis = 60 * SECOND;

export const RELAY_REFUSALS = [
  "handshake-failed",
  "admission-malformed",
  "admission-forged",
  "admission-expired",
  "admission-not-yet",
  "admission-too-long",
  "admission-of-another",
  "revoked",
  "full",
  "restarting",
  "too-slow",
  "unreadable",
] as const;
export type RelayRefusal = (typeof RELAY_REFUSALS)[number];

export function prologueOf(binding: Uint8Array | undefined): Uint8Array {
  return binding === undefined ? utf8(RELAY_PROLOGUE) : concat(utf8(RELAY_PROLOGUE), binding);
}

export function encodeFrame(type: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = concat(...parts);
  return concat(Uint8Array.of(type, body.length >>> 8, body.length & 0xff), body);
}

/** How long a body of the type is: exactly, at least and at most, or undefined for a type that is unknown. */
export function bodyBounds(type: number): readonly [least: number, most: number] | undefined {
  return BOUNDS.get(type);
}

const BOUNDS = new Map<number, readonly [number, number]>([
  [FRAME.initiation, [96, 96]],
  [FRAME.reply, [48, 48]],
  [FRAME.login, [ADMISSION_BYTES + 16, ADMISSION_BYTES + 16]],
  [FRAME.welcome, [5 + 16, 5 + 64 + 16]],
  [FRAME.refused, [1, 1]],
  [FRAME.renewal, [ADMISSION_BYTES, ADMISSION_BYTES]],
  [FRAME.datagram, [KEY_BYTES + 1, BODY_BYTES_MAX]],
  [FRAME.probe, [KEY_BYTES + 1, BODY_BYTES_MAX]],
  [FRAME.ping, [PING_BYTES, PING_BYTES]],
  [FRAME.pong, [PING_BYTES, PING_BYTES]],
  [FRAME.gone, [KEY_BYTES, KEY_BYTES]],
  [FRAME.restarting, [8, 8]],
  [FRAME.dialBack, [2 + DIAL_BACK_TOKEN_BYTES, 2 + DIAL_BACK_TOKEN_BYTES]],
]);

export type Welcome = { readonly pingEveryMs: Millis; readonly address: string };

/** The welcome's plaintext. */
export function encodeWelcome({ pingEveryMs, address }: Welcome): Uint8Array {
  const head = new Uint8Array(5);
  head[0] = 1;
  new DataView(head.buffer).setUint32(1, pingEveryMs);
  return concat(head, utf8(address.slice(0, 64)));
}

export function decodeWelcome(bytes: Uint8Array): Welcome | undefined {
  if (bytes.length < 5 || bytes.length > 5 + 64 || bytes[0] !== 1) return undefined;
  const address = bytes.subarray(5);
  if (address.some((byte) => byte < 0x20 || byte > 0x7e)) return undefined;
  const pingEveryMs = new DataView(bytes.buffer, bytes.byteOffset).getUint32(1);
  return { pingEveryMs, address: String.fromCharCode(...address) };
}

export function encodeRefused(refusal: RelayRefusal): Uint8Array {
  return encodeFrame(FRAME.refused, Uint8Array.of(RELAY_REFUSALS.indexOf(refusal)));
}

export function decodeRefused(body: Uint8Array): RelayRefusal | undefined {
  return body.length === 1 ? RELAY_REFUSALS[body[0] ?? 255] : undefined;
}

export type Restarting = { readonly waitMs: Millis; readonly spreadMs: Millis };

export function encodeRestarting({ waitMs, spreadMs }: Restarting): Uint8Array {
  const body = new Uint8Array(8);
  new DataView(body.buffer).setUint32(0, waitMs);
  new DataView(body.buffer).setUint32(4, spreadMs);
  return encodeFrame(FRAME.restarting, body);
}

export function decodeRestarting(body: Uint8Array): Restarting | undefined {
  if (body.length !== 8) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  return { waitMs: view.getUint32(0), spreadMs: view.getUint32(4) };
}

export type DialBack = { readonly port: number; readonly token: Uint8Array };

export function encodeDialBack({ port, token }: DialBack): Uint8Array {
  return encodeFrame(FRAME.dialBack, Uint8Array.of(port >>> 8, port & 0xff), token.subarray(0, DIAL_BACK_TOKEN_BYTES));
}

export function decodeDialBack(body: Uint8Array): DialBack | undefined {
  if (body.length !== 2 + DIAL_BACK_TOKEN_BYTES) return undefined;
  const port = ((body[0] ?? 0) << 8) | (body[1] ?? 0);
  return port === 0 ? undefined : { port, token: new Uint8Array(body.subarray(2)) };
}
