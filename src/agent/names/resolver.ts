import type { Ip } from "../../kit/ip.js";
import { familyOf } from "../../kit/ip.js";
import type { Millis } from "../../kit/time.js";
import type { NameService, NameTransport } from "../../sys/nameservice.js";
import type { Random } from "../../sys/random.js";
import { Canaries } from "./canaries.js";
import {
  emptyReply,
  HEADER_BYTES,
  idOf,
  isReplyTo,
  ownReply,
  type Query,
  RCODE,
  readQuery,
  withId,
} from "./message.js";
import { decide, type NameTable } from "./table.js";
import type { Upstreams } from "./upstreams.js";

/** Questions that wait for an answer at once, each with a socket; a further one is told to come again. */
export const OUTSTANDING_MAX = 256;
/** A stub asks again or elsewhere after 5 s (resolv.conf(5)): by then it has been told that nobody answers. */
const ATTEMPT_MS: Millis = 1_200;
const ATTEMPTS_MAX = 4;
const DNS_PORT = 53;

/** What the resolver goes by: replaced whole when the map, the choice or the network here changes. */
export type Course = {
  readonly table: NameTable;
  readonly upstreams: Upstreams;
  /** Ours in the tunnel: what is asked from them goes through it. */
  readonly addresses: readonly Ip[];
};

export type ResolverParts = { readonly service: NameService; readonly random: Random };

/**
 * Answers the machine's look-ups: the network's names from the map, everything else from those whom it passes the
 * question on to, byte for byte. It keeps no answers: whom it asks does, and one kept across a change of exits would be
 * the former exit's.
 */
export class Resolver {
  readonly #parts: ResolverParts;
  readonly canaries = new Canaries();
  #course: Course | undefined;
  #outstanding = 0;
  /** Answered last, and asked first. */
  #preferred: Ip | undefined;

  constructor(parts: ResolverParts) {
    this.#parts = parts;
  }

  follow(course: Course): void {
    this.#course = course;
  }

  async answer(bytes: Uint8Array, over: NameTransport): Promise<Uint8Array | undefined> {
    const query = readQuery(bytes);
    // Not worth a word: it has no number to answer to, or is an answer itself.
    if (query === undefined && (bytes.length < HEADER_BYTES || ((bytes[2] ?? 0) & 0x80) !== 0)) return undefined;
    if (query === undefined) return emptyReply(bytes, RCODE.formatError, false);
    if (this.#course === undefined) return emptyReply(bytes, RCODE.serverFailure);
    const decision = decide(this.#course.table, query);
    if (decision.kind === "canary") this.canaries.note(decision.token);
    if (decision.kind !== "forward") return ownReply(query, decision.answer, over);
    if (this.#outstanding >= OUTSTANDING_MAX) return emptyReply(bytes, RCODE.serverFailure);
    this.#outstanding++;
    try {
      const { upstreams, addresses } = this.#course;
      const servers = decision.resolvers ?? this.#preferredFirst(upstreams.servers);
      const from = upstreams.way === "direct" || decision.direct ? "anywhere" : addresses;
      const reply = await this.#ask(query, servers, from, over);
      return reply === undefined ? emptyReply(bytes, RCODE.serverFailure) : withId(reply, idOf(bytes));
    } finally {
      this.#outstanding--;
    }
  }

  #preferredFirst(servers: readonly Ip[]): readonly Ip[] {
    const first = servers.find((one) => one === this.#preferred);
    return first === undefined ? servers : [first, ...servers.filter((one) => one !== first)];
  }

  /** One after the other, round again when all are silent: over UDP a question may have been lost. */
  async #ask(
    { bytes }: Query,
    servers: readonly Ip[],
    addresses: readonly Ip[] | "anywhere",
    over: NameTransport,
  ): Promise<Uint8Array | undefined> {
    const fromFor = (server: Ip): Ip | undefined =>
      addresses === "anywhere" ? undefined : addresses.find((ip) => familyOf(ip) === familyOf(server));
    // Never beside the tunnel for want of an address in it.
    const able = servers.filter((server) => addresses === "anywhere" || fromFor(server) !== undefined);
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const server = able[attempt % able.length];
      if (server === undefined) return undefined;
      const [high = 0, low = 0] = this.#parts.random(2);
      const asked = withId(bytes, (high << 8) | low);
      const reply = await this.#parts.service.ask({ address: server, port: DNS_PORT }, asked, {
        ...{ over, timeoutMs: ATTEMPT_MS, from: fromFor(server) },
        isReply: (message) => isReplyTo(asked, message),
      });
      if (reply === undefined) continue;
      // A domain's own resolver says nothing of those for all the rest.
      if (this.#course?.upstreams.servers.includes(server) === true) this.#preferred = server;
      return reply;
    }
    return undefined;
  }
}
