import { type Ip, ipBytes, ipFromBytes } from "../kit/ip.js";

/**
 * The few IPv4 packets that try a tunnel out: an echo request (RFC 792), a DNS question in UDP (RFC 768), and a TCP
 * segment that asks for a connection (RFC 9293 §3.1) and is never followed up.
 */
export type Way = { readonly from: Ip; readonly to: Ip };

const IP_HEADER_BYTES = 20;
const ICMP = 1;
const TCP = 6;
const UDP = 17;
const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;
const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;
const TTL = 64;

export function echoRequest(way: Way, id: number): Uint8Array {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setUint8(0, ECHO_REQUEST);
  view.setUint16(4, id);
  view.setUint16(2, checksum(body));
  return ipv4(way, ICMP, body);
}

export function isEchoReply(packet: Uint8Array, { from, to }: Way, id: number): boolean {
  const read = bodyOf(packet, { from: to, to: from }, ICMP);
  return read !== undefined && read.byteLength >= 8 && read.getUint8(0) === ECHO_REPLY && read.getUint16(4) === id;
}

export function datagram(
  way: Way,
  ports: { readonly from: number; readonly to: number },
  content: Uint8Array,
): Uint8Array {
  const body = new Uint8Array(8 + content.length);
  const view = new DataView(body.buffer);
  view.setUint16(0, ports.from);
  view.setUint16(2, ports.to);
  view.setUint16(4, body.length);
  body.set(content, 8);
  // RFC 768: a sum of zero is sent as all ones.
  view.setUint16(6, checksum(body, pseudoSum(way, UDP, body.length)) || 0xffff);
  return ipv4(way, UDP, body);
}

/** What a datagram to these ports holds; undefined for any other packet. */
export function datagramIn(
  packet: Uint8Array,
  way: Way,
  ports: { readonly from: number; readonly to: number },
): Uint8Array | undefined {
  const read = bodyOf(packet, way, UDP);
  if (read === undefined || read.byteLength < 8) return undefined;
  if (read.getUint16(0) !== ports.from || read.getUint16(2) !== ports.to) return undefined;
  return new Uint8Array(read.buffer, read.byteOffset + 8, read.byteLength - 8);
}

export function connectionRequest(
  way: Way,
  ports: { readonly from: number; readonly to: number },
  sequence: number,
): Uint8Array {
  const body = new Uint8Array(20);
  const view = new DataView(body.buffer);
  view.setUint16(0, ports.from);
  view.setUint16(2, ports.to);
  view.setUint32(4, sequence);
  view.setUint8(12, (body.length / 4) << 4);
  view.setUint8(13, SYN);
  view.setUint16(14, 65_535);
  view.setUint16(16, checksum(body, pseudoSum(way, TCP, body.length)));
  return ipv4(way, TCP, body);
}

/** Whether it answers that request: yes or no, somebody out there has. */
export function isConnectionAnswer(
  packet: Uint8Array,
  { from, to }: Way,
  ports: { readonly from: number; readonly to: number },
): boolean {
  const read = bodyOf(packet, { from: to, to: from }, TCP);
  if (read === undefined || read.byteLength < 20) return false;
  const flags = read.getUint8(13);
  const answers = (flags & (SYN | ACK)) === (SYN | ACK) || (flags & RST) !== 0;
  return answers && read.getUint16(0) === ports.to && read.getUint16(2) === ports.from;
}

function ipv4({ from, to }: Way, protocol: number, body: Uint8Array): Uint8Array {
  const packet = new Uint8Array(IP_HEADER_BYTES + body.length);
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, packet.length);
  view.setUint8(8, TTL);
  view.setUint8(9, protocol);
  packet.set(ipBytes(from), 12);
  packet.set(ipBytes(to), 16);
  view.setUint16(10, checksum(packet.subarray(0, IP_HEADER_BYTES)));
  packet.set(body, IP_HEADER_BYTES);
  return packet;
}

function bodyOf(packet: Uint8Array, { from, to }: Way, protocol: number): DataView | undefined {
  if (packet.length < IP_HEADER_BYTES || (packet[0] ?? 0) >> 4 !== 4 || packet[9] !== protocol) return undefined;
  const header = ((packet[0] ?? 0) & 0x0f) * 4;
  if (ipFromBytes(packet.subarray(12, 16)) !== from || ipFromBytes(packet.subarray(16, 20)) !== to) return undefined;
  if (header < IP_HEADER_BYTES || header > packet.length) return undefined;
  return new DataView(packet.buffer, packet.byteOffset + header, packet.length - header);
}

/** RFC 1071. */
function checksum(bytes: Uint8Array, start = 0): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function pseudoSum({ from, to }: Way, protocol: number, length: number): number {
  let sum = protocol + length;
  for (const address of [ipBytes(from), ipBytes(to)])
    for (let i = 0; i < 4; i += 2) sum += ((address[i] ?? 0) << 8) | (address[i + 1] ?? 0);
  return sum;
}
