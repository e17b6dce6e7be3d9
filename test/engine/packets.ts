import { ipBytes, parseIp } from "../../src/kit/ip.js";

/** IP packets for tests, written the slow and obvious way. */
export type Segment = {
  readonly from: string;
  readonly to: string;
  readonly fromPort: number;
  readonly toPort: number;
  readonly payload: Uint8Array;
  /** TCP; UDP without. */
  readonly tcp?: { readonly sequence: number; readonly flags: number; readonly options?: Uint8Array };
  readonly identification?: number;
  readonly ecn?: number;
};

export function slowSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

export function ipPacket(segment: Segment): Uint8Array {
  const [from, to] = [ipBytes(parseIp(segment.from)), ipBytes(parseIp(segment.to))];
  const transport = segment.tcp === undefined ? udp(segment) : tcp(segment, segment.tcp);
  const protocol = segment.tcp === undefined ? 17 : 6;
  const pseudo = Uint8Array.of(...from, ...to, 0, protocol, transport.length >> 8, transport.length & 255);
  const whole = new Uint8Array(pseudo.length + transport.length);
  whole.set(pseudo);
  whole.set(transport, pseudo.length);
  const checksum = 0xffff ^ slowSum(whole);
  put16(transport, segment.tcp === undefined ? 6 : 16, checksum === 0 ? 0xffff : checksum);
  const header =
    from.length === 4 ? ip4(segment, protocol, transport.length) : ip6(segment, protocol, transport.length);
  header.set(from, from.length === 4 ? 12 : 8);
  header.set(to, from.length === 4 ? 16 : 24);
  if (from.length === 4) put16(header, 10, 0xffff ^ slowSum(header));
  return Uint8Array.of(...header, ...transport);
}

function ip4({ identification = 0, ecn = 0 }: Segment, protocol: number, length: number): Uint8Array {
  const header = new Uint8Array(20);
  header.set([0x45, ecn], 0);
  put16(header, 2, 20 + length);
  put16(header, 4, identification);
  put16(header, 6, 0x4000);
  header.set([64, protocol], 8);
  return header;
}

function ip6({ ecn = 0 }: Segment, protocol: number, length: number): Uint8Array {
  const header = new Uint8Array(40);
  header.set([0x60, ecn << 4], 0);
  put16(header, 4, length);
  header.set([protocol, 64], 6);
  return header;
}

function tcp(
  segment: Segment,
  { sequence, flags, options = new Uint8Array() }: NonNullable<Segment["tcp"]>,
): Uint8Array {
  const bytes = new Uint8Array(20 + options.length + segment.payload.length);
  put16(bytes, 0, segment.fromPort);
  put16(bytes, 2, segment.toPort);
  new DataView(bytes.buffer).setUint32(4, sequence);
  bytes.set([(5 + options.length / 4) << 4, flags, 0x12, 0x34], 12);
  bytes.set(options, 20);
  bytes.set(segment.payload, 20 + options.length);
  return bytes;
}

function udp(segment: Segment): Uint8Array {
  const bytes = new Uint8Array(8 + segment.payload.length);
  put16(bytes, 0, segment.fromPort);
  put16(bytes, 2, segment.toPort);
  put16(bytes, 4, bytes.length);
  bytes.set(segment.payload, 8);
  return bytes;
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 255;
}
