import { fold } from "./checksums.js";

/**
 * Explicit congestion notification through a tunnel (RFC 6040): the outer packet carries the inner one's two bits,
 * and a mark it got on the way is handed on to an inner packet that understands it. DSCP stays inside: the network
 * in between shall not tell one kind of traffic from another.
 */
export const ECN_MASK = 3;
export const CONGESTION_EXPERIENCED = 3;

/** The two bits of the packet at `at`. */
export function ecnOf(bytes: Uint8Array, at: number): number {
  // IPv6's traffic class lies across two bytes (RFC 8200 §3).
  return (bytes[at] ?? 0) >> 4 === 6 ? ((bytes[at + 1] ?? 0) >> 4) & ECN_MASK : (bytes[at + 1] ?? 0) & ECN_MASK;
}

/** Marks the inner packet at `at` when the outer one, of that traffic class, was marked. */
export function markInner(view: DataView, at: number, outerTrafficClass: number): void {
  if ((outerTrafficClass & ECN_MASK) !== CONGESTION_EXPERIENCED) return;
  const six = view.getUint8(at) >> 4 === 6;
  const word = view.getUint16(at);
  const inner = (six ? word >> 4 : word) & ECN_MASK;
  if (inner === 0 || inner === CONGESTION_EXPERIENCED) return;
  const marked = word | (six ? CONGESTION_EXPERIENCED << 4 : CONGESTION_EXPERIENCED);
  view.setUint16(at, marked);
  if (six) return;
  // RFC 1624: the new checksum from the old one and the changed word.
  const sum = fold((0xffff ^ view.getUint16(at + 10)) + (0xffff ^ word) + marked);
  view.setUint16(at + 10, 0xffff ^ sum);
}
