import packet, { type Answer, type DecodedPacket, type Question } from "dns-packet";
import type { Ip } from "../../kit/ip.js";

/** DNS messages (RFC 1035, RFC 6891) as far as a resolver that mostly passes them on needs them. */
export const HEADER_BYTES = 12;
/** A question about the longest name, with EDNS and its options. */
const QUERY_BYTES_MAX = 4_096;
/** RFC 1035 §4.2.1, and what passes every path whole (DNS Flag Day 2020). */
const UDP_BYTES = 512;
const UDP_BYTES_MAX = 1_232;

export const RCODE = { noError: 0, formatError: 1, serverFailure: 2, nameUnknown: 3 } as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

/** Byte 2: QR, opcode, AA, TC, RD. Byte 3: RA, Z, AD, CD, rcode. */
const QR = 0x80;
const AA = 0x04;
const TC = 0x02;
const RD = 0x01;
const RA = 0x80;

export type Query = {
  readonly bytes: Uint8Array;
  /** In lower case, without the dot of the root. */
  readonly name: string;
  readonly type: string;
  readonly class: string;
  /** What the asker takes in one datagram. */
  readonly udpBytes: number;
  readonly hasEdns: boolean;
};

/** What a query asks; undefined for what is none, or is not a plain one with one question. */
export function readQuery(bytes: Uint8Array): Query | undefined {
  if (bytes.length < HEADER_BYTES + 5 || bytes.length > QUERY_BYTES_MAX) return undefined;
  const [, , flags = 0] = bytes;
  const isPlain = (flags & (QR | 0x78)) === 0;
  const message = isPlain ? tryDecode(bytes) : undefined;
  const [question, ...more] = message?.questions ?? [];
  if (message === undefined || question === undefined || more.length > 0) return undefined;
  const edns = (message.additionals ?? []).find(({ type }) => type === "OPT");
  const offered = edns !== undefined && "udpPayloadSize" in edns ? edns.udpPayloadSize : UDP_BYTES;
  return {
    bytes,
    name: question.name === "." ? "" : question.name.toLowerCase(),
    type: question.type,
    class: question.class ?? "IN",
    udpBytes: Math.min(UDP_BYTES_MAX, Math.max(UDP_BYTES, offered)),
    hasEdns: edns !== undefined,
  };
}

/** The question as it stands in a message, after the header. */
function questionBytes(bytes: Uint8Array): Uint8Array {
  let at = HEADER_BYTES;
  while (at < bytes.length && bytes[at] !== 0) at += 1 + (bytes[at] ?? 0);
  return bytes.subarray(HEADER_BYTES, Math.min(bytes.length, at + 5));
}

/** The query under another number: whoever is asked, and whoever guesses, does not know the asker's. */
export function withId(bytes: Uint8Array, id: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[0] = id >> 8;
  copy[1] = id & 0xff;
  return copy;
}

export const idOf = (bytes: Uint8Array): number => ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0);

/** RFC 5452 §9.1: the number and the question are those that were asked. Some servers answer in another case. */
export function isReplyTo(query: Uint8Array, reply: Uint8Array): boolean {
  if (reply.length < HEADER_BYTES || ((reply[2] ?? 0) & QR) === 0 || idOf(reply) !== idOf(query)) return false;
  const asked = questionBytes(query);
  // RFC 1035 §4.1.1: a server that cannot read the question may leave it out; it then says so.
  if (((reply[4] ?? 0) << 8) + (reply[5] ?? 0) === 0) return ((reply[3] ?? 0) & 0x0f) !== RCODE.noError;
  const answered = reply.subarray(HEADER_BYTES, HEADER_BYTES + asked.length);
  return answered.length === asked.length && asked.every((byte, i) => lower(byte) === lower(answered[i] ?? 0));
}

const lower = (byte: number): number => (byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);

/** No records, and the question as it came: also for what could not be understood beyond its header. */
export function emptyReply(bytes: Uint8Array, rcode: Rcode, isUnderstood = true): Uint8Array {
  const question = isUnderstood ? questionBytes(bytes) : new Uint8Array();
  const reply = new Uint8Array(HEADER_BYTES + question.length);
  reply.set(bytes.subarray(0, 2));
  reply[2] = QR | ((bytes[2] ?? 0) & (0x78 | RD));
  reply[3] = RA | rcode;
  reply[5] = isUnderstood ? 1 : 0;
  reply.set(question, HEADER_BYTES);
  return reply;
}

export type OwnAnswer = {
  readonly rcode: Rcode;
  readonly addresses?: readonly { readonly type: "A" | "AAAA"; readonly ip: Ip }[];
  /** The name of an address. */
  readonly pointer?: string;
  /** The zone that says there is no more than this. */
  readonly zone: string;
};

/** How long what is ours may be kept: a device that was renamed or revoked is forgotten within this time. */
const OWN_TTL_SECONDS = 30;

/** An answer of our own. Over UDP, one that does not fit says so and has nothing; the asker comes back over TCP. */
export function ownReply(query: Query, answer: OwnAnswer, over: "udp" | "tcp"): Uint8Array {
  const message = tryDecode(query.bytes);
  const [question] = message?.questions ?? [];
  if (message === undefined || question === undefined) return emptyReply(query.bytes, RCODE.formatError);
  const answers = recordsOf(question, answer);
  const encoded = packet.encode({
    type: "response",
    id: idOf(query.bytes),
    flags: (AA << 8) | RA | (((query.bytes[2] ?? 0) & RD) << 8) | answer.rcode,
    questions: [question],
    answers,
    // RFC 2308 §3: how long it may be believed that there is nothing.
    authorities: answers.length > 0 ? [] : [authority(answer.zone)],
    additionals: query.hasEdns
      ? [
          {
            type: "OPT",
            name: ".",
            udpPayloadSize: UDP_BYTES_MAX,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });
  if (over === "tcp" || encoded.length <= query.udpBytes) return new Uint8Array(encoded);
  const cut = emptyReply(query.bytes, answer.rcode);
  cut[2] = (cut[2] ?? 0) | TC | AA;
  return cut;
}

function recordsOf({ name }: Question, { addresses = [], pointer }: OwnAnswer): Answer[] {
  const ttl = OWN_TTL_SECONDS;
  return [
    ...addresses.map(({ type, ip }): Answer => ({ type, name, ttl, class: "IN", data: ip })),
    ...(pointer === undefined ? [] : [{ type: "PTR" as const, name, ttl, class: "IN" as const, data: pointer }]),
  ];
}

function authority(zone: string): Answer {
  const hour = 3_600;
  const data = {
    mname: zone,
    rname: `hostmaster.${zone}`,
    serial: 1,
    refresh: hour,
    retry: hour,
    expire: 24 * hour,
    minimum: OWN_TTL_SECONDS,
  };
  return { type: "SOA", name: zone, ttl: OWN_TTL_SECONDS, class: "IN", data };
}

function tryDecode(bytes: Uint8Array): DecodedPacket | undefined {
  try {
    return packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
  } catch {
    return undefined; // anybody may send anything
  }
}
