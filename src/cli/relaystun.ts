import { Failure } from "../kit/failure.js";
import { decodeStunRequest, encodeStunResponse } from "../nat/stun.js";
import { type StunAnswerer, type StunCounters, serveStun } from "../relay/stunserver.js";
import { systemClock } from "../sys/clock.js";
import { type DatagramSocket, openDatagramSocket } from "../sys/dgram.js";
import type { Log } from "../sys/log.js";

/** A relay's STUN on real sockets: on no port, on one, or on two. */
export type RelayStun = {
  /** 0: it answers none. */
  readonly stunPort: number;
  /** 0: it answers on one port at most. */
  readonly otherStunPort: number;
  readonly counters: StunCounters;
  close(): void;
};

/** The first port is wanted; the other one is done without when another program has it. */
export async function openRelayStun(
  want: { readonly stunPort: number; readonly otherStunPort: number },
  log?: Log,
): Promise<RelayStun> {
  const first = want.stunPort === 0 ? undefined : await openDatagramSocket(want.stunPort);
  const other = first === undefined ? undefined : await openOther(want.otherStunPort, log);
  const sockets = [first, other].filter((socket) => socket !== undefined);
  return {
    stunPort: first?.port ?? 0,
    otherStunPort: other?.port ?? 0,
    counters: serveStun(sockets, answerStun, systemClock),
    close: () => {
      for (const socket of sockets) socket.close();
    },
  };
}

const answerStun: StunAnswerer = (datagram, from) => {
  const request = decodeStunRequest(datagram);
  return request === undefined ? undefined : encodeStunResponse(request, from);
};

async function openOther(port: number, log: Log | undefined): Promise<DatagramSocket | undefined> {
  if (port === 0) return undefined;
  try {
    return await openDatagramSocket(port);
  } catch (error) {
    if (!isTaken(error)) throw error;
    log?.warn("STUN is answered on one port only", { reason: error.message });
    return undefined;
  }
}

/** Another program has the port, which is no reason to fail for whoever can do without. */
export const isTaken = (error: unknown): error is Failure => error instanceof Failure && error.code === "port-taken";
