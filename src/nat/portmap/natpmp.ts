import { type Ip, ipFromBytes } from "../../kit/ip.js";

/**
 * NAT-PMP (RFC 6886), over UDP to port 5351 of the gateway:
 *
 *   address request   version 0, op 0
 *   address answer    0, 128, result u16, epoch u32 (s), address 4
 *   map request       0, 1 (UDP), zero u16, internal port u16, wanted port u16, lifetime u32 (s)
 *   map answer        0, 129, result u16, epoch u32, internal port u16, external port u16, lifetime u32
 *
 * A lifetime of zero, with a wanted port of zero, deletes the mapping (§3.4).
 */
export const NATPMP_PORT = 5_351;

export type NatPmpAnswer =
  | { readonly kind: "address"; readonly epoch: number; readonly address: Ip }
  | {
      readonly kind: "mapped";
      readonly epoch: number;
      readonly internalPort: number;
      readonly externalPort: number;
      readonly lifetimeSeconds: number;
    }
  | { readonly kind: "refused"; readonly epoch: number; readonly words: string };

/** §3.5 */
const RESULTS = [
  "success",
  "the router does not speak this version of NAT-PMP",
  "the router refuses mappings: they are turned off there",
  "the router has no address of its own yet",
  "the router's table of mappings is full",
  "the router does not know the request",
];
const [OP_ADDRESS, OP_MAP_UDP, ANSWER] = [0, 1, 128];

export const encodeAddressRequest = (): Uint8Array => Uint8Array.of(0, OP_ADDRESS);

export function encodeMapRequest(internalPort: number, wantedPort: number, lifetimeSeconds: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint8(1, OP_MAP_UDP);
  view.setUint16(4, internalPort);
  view.setUint16(6, wantedPort);
  view.setUint32(8, lifetimeSeconds);
  return bytes;
}

/** Undefined for anything but one of the answers, at its exact length. */
export function decodeNatPmp(datagram: Uint8Array): NatPmpAnswer | undefined {
  if (datagram.length < 8 || datagram[0] !== 0) return undefined;
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const [op, result, epoch] = [view.getUint8(1), view.getUint16(2), view.getUint32(4)];
  if (op < ANSWER || op > ANSWER + 2) return undefined;
  // §3.5: an error may come cut short, and an unsupported op with the code of the request.
  if (result !== 0)
    return { kind: "refused", epoch, words: RESULTS[result] ?? `the router refuses with NAT-PMP code ${result}` };
  if (op === ANSWER + OP_ADDRESS && datagram.length === 12)
    return { kind: "address", epoch, address: ipFromBytes(datagram.slice(8, 12)) };
  if (op !== ANSWER + OP_MAP_UDP || datagram.length !== 16) return undefined;
  const [internalPort, externalPort, lifetimeSeconds] = [view.getUint16(8), view.getUint16(10), view.getUint32(12)];
  return { kind: "mapped", epoch, internalPort, externalPort, lifetimeSeconds };
}
