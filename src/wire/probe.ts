import { concat, utf8 } from "../kit/bytes.js";
import { BOX_NONCE_BYTES, boxOpen, boxSeal, dh, hash, TAG_BYTES } from "../kit/crypto.js";
import { PROBE_MAGIC } from "../kit/datagramkind.js";
import type { Endpoint } from "../kit/endpoint.js";
import { familyOf, ipBytes, ipFromBytes } from "../kit/ip.js";
import { ENDPOINTS_MAX } from "./map.js";

/**
 * Probes: what two devices say to each other to find a path, on WireGuard's UDP port or through the relay.
 *
 *   magic    u32 BE   PROBE_MAGIC
 *   sender   32       the sender's discovery key, public
 *   nonce    24       by chance
 *   box      n + 16   XChaCha20-Poly1305 of the body under the pair's shared key, with magic and sender associated
 *
 * The whole sender key, and not a short id of it: a receiver that has just learned of a device can still read what the
 * device sent before, and a pong fits into the smallest path either way. The associated sender tells the directions
 * apart, for the shared key is the same in both. Bodies, of exactly these lengths:
 *
 *   ping             u8 1   transaction 12   zeros, up to PROBE_BYTES_MAX   (they measure the path's MTU)
 *   pong             u8 2   transaction 12   source 18: where the ping came from
 *   call-me-maybe    u8 3   nat u8   count u8, at most ENDPOINTS_MAX   count × endpoint 18     (only through the relay)
 *
 * An endpoint is 16 bytes of address (IPv4 as ::ffff:a.b.c.d, RFC 4291 §2.5.5.2) and a port, u16 BE, never 0.
 */

export const TRANSACTION_BYTES = 12;
/** A jumbo frame's worth; nobody probes for more. */
const PROBE_BYTES_MAX = 9_000;
/** What stands around a body. */
const PROBE_OVERHEAD_BYTES = 4 + 32 + BOX_NONCE_BYTES + TAG_BYTES;
/** A ping without padding. */
export const PING_BYTES = PROBE_OVERHEAD_BYTES + 1 + TRANSACTION_BYTES;

/** What a device's NAT does, as far as its peers must know: by it both sides tell whether and how to guess ports. */
export type NatKind = "unknown" | "open" | "easy" | "hard" | "blocked";
const NAT_KINDS: readonly NatKind[] = ["unknown", "open", "easy", "hard", "blocked"];

export type Ping = { readonly kind: "ping"; readonly transaction: Uint8Array; readonly padding: number };
export type Pong = { readonly kind: "pong"; readonly transaction: Uint8Array; readonly source: Endpoint };
export type CallMeMaybe = {
  readonly kind: "call-me-maybe";
  readonly nat: NatKind;
  readonly endpoints: readonly Endpoint[];
};
export type Probe = Ping | Pong | CallMeMaybe;

const SENDER_AT = 4;
const NONCE_AT = SENDER_AT + 32;
const BOX_AT = NONCE_AT + BOX_NONCE_BYTES;
const ENDPOINT_BYTES = 18;
const [PING, PONG, CALL_ME_MAYBE] = [1, 2, 3];
const LABEL = utf8("exitnode probe 1");

/** The pair's shared key, the same on both sides; undefined for a public key that no device can have. */
export function probeKey(ownPrivateKey: Uint8Array, peerPublicKey: Uint8Array): Uint8Array | undefined {
  const shared = dh(ownPrivateKey, peerPublicKey);
  return shared === undefined ? undefined : hash(LABEL, shared);
}

export function encodeProbe(probe: Probe, sender: Uint8Array, key: Uint8Array, nonce: Uint8Array): Uint8Array {
  const head = new Uint8Array(NONCE_AT);
  new DataView(head.buffer).setUint32(0, PROBE_MAGIC);
  head.set(sender, SENDER_AT);
  return concat(head, nonce, boxSeal(key, nonce, encodeBody(probe), head));
}

/** The sender's discovery key as the datagram claims it; undefined when it cannot be a probe. Nothing is proven by it. */
export function probeSender(datagram: Uint8Array): Uint8Array | undefined {
  if (datagram.length < PING_BYTES - TRANSACTION_BYTES || datagram.length > PROBE_BYTES_MAX) return undefined;
  if (new DataView(datagram.buffer, datagram.byteOffset).getUint32(0) !== PROBE_MAGIC) return undefined;
  return datagram.subarray(SENDER_AT, NONCE_AT);
}

/** 24 bytes that no two probes share: a nonce seen before is a replay. */
export const probeNonce = (datagram: Uint8Array): Uint8Array => datagram.subarray(NONCE_AT, BOX_AT);

/** Undefined when it was not sealed under this key, or is not exactly one of the three bodies. */
export function decodeProbe(datagram: Uint8Array, key: Uint8Array): Probe | undefined {
  if (probeSender(datagram) === undefined) return undefined;
  const body = boxOpen(key, probeNonce(datagram), datagram.subarray(BOX_AT), datagram.subarray(0, NONCE_AT));
  return body === undefined ? undefined : decodeBody(body);
}

function encodeBody(probe: Probe): Uint8Array {
  switch (probe.kind) {
    case "ping":
      return concat(Uint8Array.of(PING), probe.transaction, new Uint8Array(probe.padding));
    case "pong":
      return concat(Uint8Array.of(PONG), probe.transaction, encodeEndpoint(probe.source));
    case "call-me-maybe": {
      const endpoints = probe.endpoints.slice(0, ENDPOINTS_MAX);
      const head = Uint8Array.of(CALL_ME_MAYBE, NAT_KINDS.indexOf(probe.nat), endpoints.length);
      return concat(head, ...endpoints.map(encodeEndpoint));
    }
  }
}

function decodeBody(body: Uint8Array): Probe | undefined {
  const [type] = body;
  if (type === CALL_ME_MAYBE) return decodeCallMeMaybe(body);
  const transaction = body.slice(1, 1 + TRANSACTION_BYTES);
  const rest = body.subarray(1 + TRANSACTION_BYTES);
  if (transaction.length !== TRANSACTION_BYTES) return undefined;
  if (type === PING && rest.every((byte) => byte === 0)) return { kind: "ping", transaction, padding: rest.length };
  const source = type === PONG && rest.length === ENDPOINT_BYTES ? decodeEndpoint(rest) : undefined;
  return source === undefined ? undefined : { kind: "pong", transaction, source };
}

function decodeCallMeMaybe(body: Uint8Array): CallMeMaybe | undefined {
  const [, natCode = 0, count = 0] = body;
  const nat = NAT_KINDS[natCode];
  if (nat === undefined || count > ENDPOINTS_MAX || body.length !== 3 + count * ENDPOINT_BYTES) return undefined;
  const endpoints: Endpoint[] = [];
  for (let at = 3; at < body.length; at += ENDPOINT_BYTES) {
    const endpoint = decodeEndpoint(body.subarray(at, at + ENDPOINT_BYTES));
    if (endpoint === undefined) return undefined;
    endpoints.push(endpoint);
  }
  return { kind: "call-me-maybe", nat, endpoints };
}

const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

function encodeEndpoint({ address, port }: Endpoint): Uint8Array {
  const bytes = ipBytes(address);
  return concat(familyOf(address) === 4 ? concat(MAPPED, bytes) : bytes, Uint8Array.of(port >> 8, port & 0xff));
}

function decodeEndpoint(bytes: Uint8Array): Endpoint | undefined {
  const port = ((bytes[16] ?? 0) << 8) | (bytes[17] ?? 0);
  const isMapped = MAPPED.every((byte, i) => bytes[i] === byte);
  return port === 0 ? undefined : { address: ipFromBytes(bytes.subarray(isMapped ? 12 : 0, 16)), port };
}
