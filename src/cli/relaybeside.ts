import type { RelayBesideWant } from "../coordinator/coordinator.js";
import type { RelayBeside } from "../coordinator/relays.js";
import type { Endpoint } from "../kit/endpoint.js";
import { tryIp } from "../kit/ip.js";
import { keyOf } from "../kit/key.js";
import { RELAY_LIMITS, type RelayLimits } from "../relay/limits.js";
import { RelayService } from "../relay/server.js";
import { systemClock } from "../sys/clock.js";
import { openDatagramSocket } from "../sys/dgram.js";
import { chunkFreer } from "../sys/freeing.js";
import type { Log } from "../sys/log.js";
import { systemRandom } from "../sys/random.js";
import { BINDING_HEADER, RELAY_PATH, RELAY_PROTOCOL } from "../wire/relay.js";
import { isTaken, openRelayStun, type RelayStun } from "./relaystun.js";

/**
 * A relay on the coordinator's port, with real sockets behind it. Its queues are shorter than a relay's of its own: it
 * shares a small container with an exit node.
 */
const LIMITS_BESIDE: Partial<RelayLimits> = { membersMax: 1_024, dataBytesMax: 262_144 };

export async function openRelayBeside(want: RelayBesideWant, log?: Log): Promise<RelayBeside> {
  const stun = await stunIfFree(want, log);
  const service = new RelayService({
    noiseKey: want.noiseKey,
    signers: [want.signer],
    clock: systemClock,
    random: systemRandom,
    limits: LIMITS_BESIDE,
    freeChunk: chunkFreer(),
    sendDatagram: trials(),
    ...(log === undefined ? {} : { log }),
  });
  return {
    publicKey: keyOf(want.noiseKey.publicKey),
    stunPort: stun?.stunPort ?? 0,
    otherStunPort: stun?.otherStunPort ?? 0,
    connectionsMax: (LIMITS_BESIDE.membersMax ?? 0) + 2 * RELAY_LIMITS.lobbyMax,
    streams: {
      path: RELAY_PATH,
      protocol: RELAY_PROTOCOL,
      bindingHeader: BINDING_HEADER,
      accept: (stream) => service.accept(stream),
    },
    revoke: (machineKey) => service.revoke(machineKey),
    async close() {
      await service.close();
      stun?.close();
    },
  };
}

/** Mappings that are tried at once; a further one is not. */
const TRIALS_MAX = 16;
const TRIAL_SOCKET_MS = 1_000;

/** Each from a socket of its own that is soon gone: an exit node has no port open that nobody can explain. */
function trials(): (address: string, port: number, datagram: Uint8Array) => void {
  let open = 0;
  const send = async (to: Endpoint, datagram: Uint8Array): Promise<void> => {
    const socket = await openDatagramSocket(0);
    socket.send(to, datagram);
    await systemClock.sleep(TRIAL_SOCKET_MS);
    socket.close();
  };
  return (address, port, datagram) => {
    const ip = tryIp(address);
    if (ip === undefined || open >= TRIALS_MAX) return;
    open++;
    send({ address: ip, port }, datagram)
      .catch(() => undefined) // lost, as datagrams may be
      .finally(() => open--);
  };
}

/** A network is better off without STUN than without its coordinator: a port that is taken is told, and done without. */
async function stunIfFree(want: RelayBesideWant, log: Log | undefined): Promise<RelayStun | undefined> {
  try {
    return await openRelayStun(want, log);
  } catch (error) {
    if (!isTaken(error)) throw error;
    log?.warn("no STUN is answered", { reason: error.message });
    return undefined;
  }
}
