/**
 * The Internet checksum (RFC 1071) over packets in memory: sums are folded to 16 bits and not inverted. A sum over a
 * packet with a correct checksum in it is 0xffff.
 */
export type Sum = (at: number, length: number, initial: number) => number;

export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x1_0000);
  return folded;
}

/** What addresses, protocol and length add to a transport checksum (RFC 9293 §3.1, RFC 8200 §8.1). */
export function pseudoSum(sum: Sum, packetAt: number, six: boolean, protocol: number, length: number): number {
  const addresses = six ? sum(packetAt + 8, 32, 0) : sum(packetAt + 12, 8, 0);
  return fold(addresses + protocol + length);
}

/** The header checksum of an IPv4 packet without options, after a change (RFC 791 §3.1). */
export function writeIp4Checksum(view: DataView, sum: Sum, packetAt: number, headerBytes: number): void {
  view.setUint16(packetAt + 10, 0);
  view.setUint16(packetAt + 10, 0xffff ^ sum(packetAt, headerBytes, 0));
}

/** The sum without vector instructions. */
export function plainSum(view: DataView): Sum {
  return (at, length, initial) => {
    let sum = initial;
    const end = at + (length & ~1);
    for (let i = at; i < end; i += 2) sum += view.getUint16(i);
    if ((length & 1) !== 0) sum += view.getUint8(end) << 8;
    return fold(sum);
  };
}
