import { toHex } from "../kit/bytes.js";
import { type Ip, ipBytes } from "../kit/ip.js";
import { Arena } from "./arena.js";
import { type Libc, loadLibc, systemFailure } from "./libc.js";

/**
 * Connection tracking over netlink (<linux/netfilter/nfnetlink_conntrack.h>), as `conntrack -D` does it, a tool that a
 * small system does not have.
 *
 *   nlmsghdr    0  u32 length   4  u16 type   6  u16 flags   8  u32 number   12  u32 port    16 bytes
 *   nfgenmsg   16  u8 family   17  u8 version   18  u16 BE resource                           4 bytes
 *   nlattr      0  u16 length   2  u16 type, then the value, padded to 4
 */
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_NETFILTER = 12;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const HEADERS_BYTES = 20;
const CT_GET = 0x101;
const CT_DELETE = 0x102;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const TYPE_MASK = 0x3fff;
const NESTED = 0x8000;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_IP = 1;
/** Source and destination of IPv4, then of IPv6. */
const CTA_IP = [1, 2, 3, 4];

const READ_BYTES = 64 * 1024;
/** The kernel answers at once; this is for one that does not. */
const ANSWER_TIMEOUT_SECONDS = 2n;
/** Flows of one peer, or of a few, that are forgotten in one go. */
const FLOWS_MAX = 65_536;

/** Forgets the flows that one of the addresses began, or that were begun to it; returns how many. */
export function forgetFlows(addresses: readonly Ip[], libc: Libc = loadLibc()): number {
  if (addresses.length === 0) return 0;
  const wanted = new Set(addresses.map((address) => toHex(ipBytes(address))));
  const fd = libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER);
  if (fd < 0) throw systemFailure(libc, "open a netfilter socket", "conntrack-unreachable");
  const arena = new Arena(libc, READ_BYTES + 256);
  try {
    const time = arena.take(16);
    arena.view.setBigInt64(time, ANSWER_TIMEOUT_SECONDS, true);
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, arena.base + time, 16);
    const at = arena.take(READ_BYTES);
    const send = (type: number, flags: number, family: number, attributes: Uint8Array): void => {
      const message = arena.bytes.subarray(at, at + HEADERS_BYTES + attributes.length).fill(0);
      arena.view.setUint32(at, message.length, true);
      arena.view.setUint16(at + 4, type, true);
      arena.view.setUint16(at + 6, NLM_F_REQUEST | flags, true);
      message[16] = family;
      message.set(attributes, HEADERS_BYTES);
      if (libc.write(fd, arena.base + at, message.length) < 0)
        throw systemFailure(libc, "ask connection tracking", "conntrack-unreachable");
    };
    send(CT_GET, NLM_F_DUMP, 0, new Uint8Array(0));
    const found: { family: number; tuple: Uint8Array }[] = [];
    for (let over = false; !over; ) {
      const length = libc.read(fd, arena.base + at, READ_BYTES);
      if (length < 0) throw systemFailure(libc, "list the flows", "conntrack-unreachable");
      for (const { type, body } of messages(arena.bytes.subarray(at, at + length))) {
        over ||= type === NLMSG_DONE || type === NLMSG_ERROR;
        const tuple = over ? undefined : tupleOf(body.subarray(4));
        if (tuple !== undefined && found.length < FLOWS_MAX && ends(tuple).some((end) => wanted.has(end)))
          found.push({ family: body[0] ?? 0, tuple: tuple.slice() });
      }
      over ||= length === 0;
    }
    // Without an acknowledgement: a flow that has ended meanwhile is as good as forgotten.
    for (const { family, tuple } of found) send(CT_DELETE, 0, family, attribute(CTA_TUPLE_ORIG | NESTED, tuple));
    return found.length;
  } finally {
    libc.close(fd);
  }
}

function* messages(bytes: Uint8Array): Iterable<{ type: number; body: Uint8Array }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 16 <= bytes.length; ) {
    const length = view.getUint32(at, true);
    if (length < 16 || at + length > bytes.length) return;
    yield { type: view.getUint16(at + 4, true), body: bytes.subarray(at + 16, at + length) };
    at += (length + 3) & ~3;
  }
}

function* attributes(bytes: Uint8Array): Iterable<{ type: number; value: Uint8Array }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 4 <= bytes.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > bytes.length) return;
    yield { type: view.getUint16(at + 2, true) & TYPE_MASK, value: bytes.subarray(at + 4, at + length) };
    at += (length + 3) & ~3;
  }
}

const tupleOf = (body: Uint8Array): Uint8Array | undefined =>
  [...attributes(body)].find(({ type }) => type === CTA_TUPLE_ORIG)?.value;

/** Both addresses of a flow's first packet, as hex. */
function ends(tuple: Uint8Array): string[] {
  const ip = [...attributes(tuple)].find(({ type }) => type === CTA_TUPLE_IP)?.value;
  return ip === undefined
    ? []
    : [...attributes(ip)].filter(({ type }) => CTA_IP.includes(type)).map(({ value }) => toHex(value));
}

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array((4 + value.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}
