import { type Cidr, cidrAddress, cidrLength, type Ip, ipFromBigInt, ipFromBytes, ipToBigInt } from "../kit/ip.js";

/** Tunnel addresses: who gets which. */

/** RFC 4193 §3.1: fd, 40 random bits, and the prefix ends. */
export const ULA_RANDOM_BYTES = 5;
export const ULA_PREFIX_BITS = 48;

export function ulaPrefix(random: Uint8Array): Cidr {
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  bytes.set(random.subarray(0, ULA_RANDOM_BYTES), 1);
  return `${ipFromBytes(bytes)}/${ULA_PREFIX_BITS}` as Cidr;
}

/**
 * The lowest free IPv4 address of the range and the IPv6 address of the same offset in the ULA: 100.64.0.1 has
 * fd…::1. Undefined when the range is full. Addresses that end in .0 or .255 are passed over, for there are still
 * networks and programs that take them for a subnet's own. The search begins at `from`, an offset in the range.
 */
export function nextAddresses(
  range: Cidr,
  ula: Cidr,
  taken: ReadonlySet<Ip>,
  from = 1n,
): { ipv4: Ip; ipv6: Ip; offset: bigint } | undefined {
  const first = ipToBigInt(cidrAddress(range));
  const size = 1n << BigInt(32 - cidrLength(range));
  for (let offset = from; offset < size - 1n; offset++) {
    const lastByte = (first + offset) & 0xffn;
    if (lastByte === 0n || lastByte === 0xffn) continue;
    const ipv4 = ipFromBigInt(first + offset, 4);
    const ipv6 = ipFromBigInt(ipToBigInt(cidrAddress(ula)) + offset, 6);
    if (!taken.has(ipv4) && !taken.has(ipv6)) return { ipv4, ipv6, offset };
  }
  return undefined;
}
