import { toHex } from "../kit/bytes.js";
import { type Endpoint, formatEndpoint } from "../kit/endpoint.js";
import type { Ip } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { decodeStunAnswer, encodeStunRequest } from "./stun.js";
import { STUN_TRANSACTION_BYTES } from "./stunmessage.js";
import { judge, type StunReport, type StunSample } from "./stunreport.js";

/**
 * One round of STUN from one socket: every server is asked until it answers, and the answers are compared. Returns
 * datagrams to send; `report` is there when the round is over. Servers should have two addresses between them, and one
 * of them two ports (RFC 5780 §4.3); IPv4 and IPv6 are asked alike.
 */

/** When a request is sent again, after the first. A first round asks faster: nobody knows how far the servers are. */
const STUN_TRIES_MS: readonly Millis[] = [0, 100, 200, 400, 800, 1_600];
/** The whole round. Slower servers would be no use as relays either. */
export const STUN_ROUND_MS: Millis = 3_000;
/** After the first answer, the others get this long, or three times what the first took. */
const STUN_STRAGGLERS_MS: Millis = 300;
const STUN_SERVERS_MAX = 12;

export type StunSend = { readonly to: Endpoint; readonly datagram: Uint8Array };

type Transaction = {
  readonly server: Endpoint;
  readonly id: Uint8Array;
  readonly startedAt: Millis;
  tries: number;
  mapped: Endpoint | undefined;
  roundTripMs: number | undefined;
  /** It answered with an error: asking again brings nothing. */
  refused: boolean;
};

export class StunRound {
  readonly #transactions: readonly Transaction[];
  readonly #startedAt: Millis;
  readonly #localPort: number;
  readonly #locals: readonly Ip[];
  #firstAnswerAt: Millis | undefined;
  #report: StunReport | undefined;

  constructor(
    servers: readonly Endpoint[],
    local: { readonly port: number; readonly addresses: readonly Ip[] },
    random: (length: number) => Uint8Array,
    now: Millis,
  ) {
    this.#startedAt = now;
    this.#localPort = local.port;
    this.#locals = local.addresses;
    this.#transactions = servers.slice(0, STUN_SERVERS_MAX).map((server) => ({
      server,
      id: random(STUN_TRANSACTION_BYTES),
      startedAt: now,
      tries: 0,
      mapped: undefined,
      roundTripMs: undefined,
      refused: false,
    }));
  }

  /** Undefined while the round runs. */
  get report(): StunReport | undefined {
    return this.#report;
  }

  /** When tick() is next due; undefined when the round is over. */
  get deadline(): Millis | undefined {
    if (this.#report !== undefined) return undefined;
    const retries = this.#transactions.filter(isOpen).map((one) => this.#nextTryAt(one));
    return Math.min(this.#endsAt(), ...retries);
  }

  tick(now: Millis): StunSend[] {
    if (this.#report !== undefined) return [];
    if (now >= this.#endsAt() || !this.#transactions.some(isOpen)) {
      this.#finish();
      return [];
    }
    const due = this.#transactions.filter((one) => isOpen(one) && now >= this.#nextTryAt(one));
    return due.map((one) => {
      one.tries += 1;
      return { to: one.server, datagram: encodeStunRequest(one.id) };
    });
  }

  /** True when the datagram was an answer to this round, from the very server that was asked. */
  receive(datagram: Uint8Array, from: Endpoint, now: Millis): boolean {
    const answer = decodeStunAnswer(datagram);
    if (answer === undefined) return false;
    const id = toHex(answer.transaction);
    const asked = this.#transactions.find((one) => toHex(one.id) === id && one.tries > 0);
    if (asked === undefined || formatEndpoint(asked.server) !== formatEndpoint(from)) return false;
    if (answer.kind === "error") asked.refused = true;
    else if (asked.mapped === undefined) {
      asked.mapped = answer.mapped;
      asked.roundTripMs = now - asked.startedAt;
      this.#firstAnswerAt ??= now;
    }
    if (!this.#transactions.some(isOpen)) this.#finish();
    return true;
  }

  #nextTryAt(one: Transaction): Millis {
    return this.#startedAt + (STUN_TRIES_MS[one.tries] ?? STUN_ROUND_MS);
  }

  #endsAt(): Millis {
    const limit = this.#startedAt + STUN_ROUND_MS;
    if (this.#firstAnswerAt === undefined) return limit;
    const took = this.#firstAnswerAt - this.#startedAt;
    return Math.min(limit, this.#firstAnswerAt + Math.max(STUN_STRAGGLERS_MS, 2 * took));
  }

  #finish(): void {
    const samples = this.#transactions.map(
      ({ server, mapped, roundTripMs }): StunSample => ({ server, mapped, roundTripMs }),
    );
    this.#report ??= judge(samples, this.#localPort, this.#locals);
  }
}

const isOpen = (one: Transaction): boolean => one.mapped === undefined && !one.refused;
