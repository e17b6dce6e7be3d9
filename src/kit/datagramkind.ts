/**
 * What a datagram on WireGuard's UDP port is. WireGuard's messages begin with a type of 1 to 4 and three zero bytes
 * (paper §5.4), which neither our probes nor an answer of STUN can:
 *
 *   probe   0  u32 BE PROBE_MAGIC
 *   STUN    0  u16 BE 0x0101 or 0x0111, binding success or error     4  u32 BE magic cookie   (RFC 8489 §5)
 */
export type DatagramKind = "wireguard" | "probe" | "stun" | "other";

/** "EXND" */
export const PROBE_MAGIC = 0x4558_4e44;
export const STUN_COOKIE = 0x2112_a442;
const STUN_BINDING_SUCCESS = 0x0101;
const STUN_BINDING_ERROR = 0x0111;

export function datagramKind(datagram: Uint8Array): DatagramKind {
  if (datagram.length < 8) return "other";
  const first = u32(datagram, 0);
  if (first >= 0x0100_0000 && first <= 0x0400_0000 && (first & 0xff_ffff) === 0) return "wireguard";
  if (first === PROBE_MAGIC) return "probe";
  const type = first >>> 16;
  if ((type === STUN_BINDING_SUCCESS || type === STUN_BINDING_ERROR) && u32(datagram, 4) === STUN_COOKIE) return "stun";
  return "other";
}

function u32(bytes: Uint8Array, at: number): number {
  const [a = 0, b = 0, c = 0, d = 0] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
  return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
}
