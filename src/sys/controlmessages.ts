import type { Arena } from "./arena.js";
import type { Remote } from "./sockaddr.js";

/**
 * What travels beside a datagram (cmsg(3)): 0 u64 length with header, 8 i32 level, 12 i32 type, 16 data; each begins
 * at a multiple of 8.
 */
const HEADER_BYTES = 16;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const SOL_UDP = 17;
const IP_TOS = 1;
const IP_PKTINFO = 8;
const IPV6_PKTINFO = 50;
const IPV6_TCLASS = 67;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

/** Room for all that one datagram can have: local address, traffic class, segment size. */
export const CONTROL_BYTES = 128;

/** What the kernel said of one received message; reused for every one. */
export type Received = {
  /** Bytes of each datagram in the message but the last; 0 for a single one. */
  segmentBytes: number;
  /** DSCP and ECN of the outer header. */
  trafficClass: number;
  /** Where in the arena the address of ours stands; 0 when it was not told. */
  sourceAt: number;
};

export function readControl(arena: Arena, at: number, length: number, into: Received): void {
  const { view, bytes } = arena;
  into.segmentBytes = 0;
  into.trafficClass = 0;
  into.sourceAt = 0;
  const end = at + length;
  while (at + HEADER_BYTES <= end) {
    const size = view.getUint32(at, true);
    if (size < HEADER_BYTES) return;
    const level = view.getInt32(at + 8, true);
    const type = view.getInt32(at + 12, true);
    const data = at + HEADER_BYTES;
    if (level === SOL_UDP && type === UDP_GRO) into.segmentBytes = view.getInt32(data, true);
    else if (level === IPPROTO_IP && type === IP_PKTINFO) into.sourceAt = data + 4;
    else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) into.sourceAt = data;
    else if (level === IPPROTO_IP && type === IP_TOS) into.trafficClass = bytes[data] ?? 0;
    else if (level === IPPROTO_IPV6 && type === IPV6_TCLASS) into.trafficClass = bytes[data] ?? 0;
    at += (size + 7) & ~7;
  }
}

/** Writes what a message to `remote` needs and returns its length; `segmentBytes` of 0 is a single datagram. */
export function writeControl(
  arena: Arena,
  at: number,
  remote: Remote,
  trafficClass: number,
  segmentBytes: number,
): number {
  const { view, bytes } = arena;
  let next = at;
  const four = remote.family === 4;
  if (remote.source !== undefined) {
    const size = HEADER_BYTES + (four ? 12 : 20);
    const data = putHeader(view, next, size, four ? IPPROTO_IP : IPPROTO_IPV6, four ? IP_PKTINFO : IPV6_PKTINFO);
    bytes.fill(0, data, data + 24);
    bytes.set(remote.source, four ? data + 4 : data);
    next += (size + 7) & ~7;
  }
  if (trafficClass !== 0) {
    const data = putHeader(view, next, 20, four ? IPPROTO_IP : IPPROTO_IPV6, four ? IP_TOS : IPV6_TCLASS);
    view.setUint32(data, trafficClass, true);
    next += 24;
  }
  if (segmentBytes !== 0) {
    const data = putHeader(view, next, 18, SOL_UDP, UDP_SEGMENT);
    view.setUint16(data, segmentBytes, true);
    next += 24;
  }
  return next - at;
}

function putHeader(view: DataView, at: number, size: number, level: number, type: number): number {
  view.setUint32(at, size, true);
  view.setUint32(at + 4, 0, true);
  view.setInt32(at + 8, level, true);
  view.setInt32(at + 12, type, true);
  return at + HEADER_BYTES;
}
