import { concat } from "../../kit/bytes.js";
import { familyOf, type Ip, ipBytes, ipFromBytes } from "../../kit/ip.js";

/**
 * PCP (RFC 6887), over UDP to port 5351 of the gateway. Addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d.
 *
 *   request   version 2, opcode, zero u16, lifetime u32 (s), client's address 16                         (§7.1)
 *   answer    version 2, 128 + opcode, zero, result, lifetime u32, epoch u32 (s), zeros 12               (§7.2)
 *   MAP       nonce 12, protocol 17 (UDP), zeros 3, internal port u16, external port u16, external address 16   (§11.1)
 *
 * ANNOUNCE (§14.1) has no body: it asks whether anybody is there. Options may follow an answer; none is needed here.
 */
export const PCP_PORT = 5_351;
export const PCP_NONCE_BYTES = 12;
/** §7 */
const BYTES_MAX = 1_100;
const HEADER_BYTES = 24;
const MAP_BYTES = 36;
const VERSION = 2;
const [ANNOUNCE, MAP, ANSWER] = [0, 1, 128];
const UDP = 17;

export type PcpMap = {
  readonly nonce: Uint8Array;
  readonly client: Ip;
  readonly internalPort: number;
  /** Wanted; 0 and the unspecified address leave the choice to the router. */
  readonly externalPort: number;
  readonly lifetimeSeconds: number;
};

export type PcpAnswer =
  | { readonly kind: "here"; readonly epoch: number }
  | {
      readonly kind: "mapped";
      readonly epoch: number;
      readonly nonce: Uint8Array;
      readonly internalPort: number;
      readonly externalPort: number;
      readonly address: Ip;
      readonly lifetimeSeconds: number;
    }
  | { readonly kind: "refused"; readonly epoch: number; readonly words: string };

/** §7.4 */
const RESULTS: Record<number, string> = {
  1: "the router does not speak this version of PCP",
  2: "the router refuses mappings: they are turned off there",
  3: "the router could not read the request",
  4: "the router does not know the request",
  7: "the router has no address of its own yet",
  8: "the router's table of mappings is full",
  10: "the router allows this device no more mappings",
  11: "the router cannot give the wanted port",
  12: "another router stands between this device and the gateway",
};

export const encodeAnnounce = (client: Ip): Uint8Array => header(ANNOUNCE, 0, client);

export function encodePcpMap(map: PcpMap): Uint8Array {
  const body = new Uint8Array(MAP_BYTES);
  const view = new DataView(body.buffer);
  body.set(map.nonce);
  view.setUint8(12, UDP);
  view.setUint16(16, map.internalPort);
  view.setUint16(18, map.externalPort);
  // §11.1: the unspecified address of the family that is wanted.
  if (familyOf(map.client) === 4) body.set(MAPPED, 20);
  return concat(header(MAP, map.lifetimeSeconds, map.client), body);
}

/** Undefined for anything but an answer to ANNOUNCE or MAP. */
export function decodePcp(datagram: Uint8Array): PcpAnswer | undefined {
  if (datagram.length < HEADER_BYTES || datagram.length > BYTES_MAX || datagram.length % 4 !== 0) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const [version, op, result] = [view.getUint8(0), view.getUint8(1), view.getUint8(3)];
  if (version !== VERSION || (op !== ANSWER + ANNOUNCE && op !== ANSWER + MAP)) return undefined;
  const [lifetimeSeconds, epoch] = [view.getUint32(4), view.getUint32(8)];
  if (op === ANSWER + ANNOUNCE) return { kind: "here", epoch };
  if (result !== 0)
    return { kind: "refused", epoch, words: RESULTS[result] ?? `the router refuses with PCP code ${result}` };
  if (datagram.length < HEADER_BYTES + MAP_BYTES || view.getUint8(HEADER_BYTES + 12) !== UDP) return undefined;
  const address = datagram.slice(HEADER_BYTES + 20, HEADER_BYTES + MAP_BYTES);
  const isMapped = MAPPED.every((byte, i) => address[i] === byte);
  return {
    kind: "mapped",
    epoch,
    nonce: datagram.slice(HEADER_BYTES, HEADER_BYTES + PCP_NONCE_BYTES),
    internalPort: view.getUint16(HEADER_BYTES + 16),
    externalPort: view.getUint16(HEADER_BYTES + 18),
    address: ipFromBytes(isMapped ? address.slice(12) : address),
    lifetimeSeconds,
  };
}

const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

function header(opcode: number, lifetimeSeconds: number, client: Ip): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, VERSION);
  view.setUint8(1, opcode);
  view.setUint32(4, lifetimeSeconds);
  return concat(bytes, familyOf(client) === 4 ? concat(MAPPED, ipBytes(client)) : ipBytes(client));
}
