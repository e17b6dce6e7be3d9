import type { Endpoint } from "../kit/endpoint.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import type { Clock } from "../sys/clock.js";
import type { DatagramSocket } from "../sys/dgram.js";

/** Answers a second, of everybody together: what a flood can make us send. */
export const STUN_ANSWERS_PER_SECOND = 20_000;

/** What the server says to a datagram, or undefined to say nothing. The codec is handed in: relays know no NATs. */
export type StunAnswerer = (datagram: Uint8Array, from: Endpoint) => Uint8Array | undefined;

export type StunCounters = { requests: number; answered: number; passedOver: number };

/** Answers STUN on the sockets until they are closed: from the port that was asked, which the asker's NAT lets in. */
export function serveStun(sockets: readonly DatagramSocket[], answer: StunAnswerer, clock: Clock): StunCounters {
  const counters: StunCounters = { requests: 0, answered: 0, passedOver: 0 };
  const bucket = new TokenBucket({ perSecond: STUN_ANSWERS_PER_SECOND, burst: STUN_ANSWERS_PER_SECOND });
  for (const socket of sockets)
    socket.onReceive = (datagram, from) => {
      counters.requests++;
      const reply = bucket.spend(1, clock.now()) ? answer(datagram, from) : undefined;
      if (reply === undefined) {
        counters.passedOver++;
        return;
      }
      counters.answered++;
      socket.send(from, reply);
    };
  return counters;
}
