import type { Family } from "../kit/ip.js";

/**
 * The head of an IP packet, as far as WireGuard cares (paper §3): whose it is, for whom, and how long it is.
 *
 *   IPv4 (RFC 791 §3.1)                 IPv6 (RFC 8200 §3)
 *     0  version 4, header words          0  version 6, …
 *     2  u16 BE total length              4  u16 BE payload length
 *    12  source, 16 destination           8  source, 24 destination
 */
export type IpPacket = {
  readonly family: Family;
  /** With the header; what the buffer holds beyond it is padding. */
  readonly lengthBytes: number;
  readonly sourceAt: number;
  readonly destinationAt: number;
};

const IP4_HEADER_BYTES = 20;
const IP6_HEADER_BYTES = 40;

/** Undefined when the bytes do not begin with a whole IPv4 or IPv6 packet. */
export function readIpPacket(bytes: Uint8Array): IpPacket | undefined {
  const first = bytes[0] ?? 0;
  if (first >> 4 === 4) {
    const lengthBytes = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
    const headerBytes = (first & 0x0f) * 4;
    if (headerBytes < IP4_HEADER_BYTES || lengthBytes < headerBytes || lengthBytes > bytes.length) return undefined;
    return { family: 4, lengthBytes, sourceAt: 12, destinationAt: 16 };
  }
  if (first >> 4 === 6 && bytes.length >= IP6_HEADER_BYTES) {
    const lengthBytes = IP6_HEADER_BYTES + (((bytes[4] ?? 0) << 8) | (bytes[5] ?? 0));
    if (lengthBytes > bytes.length) return undefined;
    return { family: 6, lengthBytes, sourceAt: 8, destinationAt: 24 };
  }
  return undefined;
}
