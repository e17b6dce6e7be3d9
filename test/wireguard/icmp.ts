import { packet } from "./world.js";

/** As much of ICMP over IPv4 (RFC 792) as an echo needs. */

const HEADER_BYTES = 20;
const PROTOCOL_ICMP = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;

export function echoRequest(source: string, destination: string, sequence: number): Uint8Array {
  const body = new Uint8Array(8 + 32).fill(0x61, 8);
  body.set([ECHO_REQUEST, 0, 0, 0, 0x12, 0x34, sequence >> 8, sequence & 0xff]);
  const bytes = packet(source, destination, body);
  bytes[8] = 64;
  bytes[9] = PROTOCOL_ICMP;
  return summed(bytes);
}

export function echoReplyTo(request: Uint8Array): Uint8Array | undefined {
  if (request[9] !== PROTOCOL_ICMP || request[HEADER_BYTES] !== ECHO_REQUEST) return undefined;
  const reply = request.slice();
  reply.set(request.subarray(12, 16), 16);
  reply.set(request.subarray(16, 20), 12);
  reply[HEADER_BYTES] = ECHO_REPLY;
  return summed(reply);
}

export function isEchoReply(bytes: Uint8Array): boolean {
  return bytes[9] === PROTOCOL_ICMP && bytes[HEADER_BYTES] === ECHO_REPLY;
}

function summed(bytes: Uint8Array): Uint8Array {
  writeChecksum(bytes.subarray(0, HEADER_BYTES), 10);
  writeChecksum(bytes.subarray(HEADER_BYTES), 2);
  return bytes;
}

// RFC 1071.
function writeChecksum(bytes: Uint8Array, at: number): void {
  bytes[at] = 0;
  bytes[at + 1] = 0;
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  bytes[at] = (~sum >> 8) & 0xff;
  bytes[at + 1] = ~sum & 0xff;
}
