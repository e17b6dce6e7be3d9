import { createSocket, type Socket } from "node:dgram";
import type { Endpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Family, familyOf, type Ip, parseIp } from "../kit/ip.js";

/** One UDP port on both families, for few datagrams; the packet engine has sockets of its own in udp.ts. */
export interface DatagramSocket {
  readonly port: number;
  /**
   * Lost, as datagrams may be, without a route or with SEND_QUEUE_BYTES_MAX waiting. A `whole` one, which nobody may
   * cut, is lost as well but on a socket of openProbeSocket().
   */
  send(to: Endpoint, datagram: Uint8Array, whole?: boolean): void;
  /** The one listener; undefined drops what comes in. */
  onReceive: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
  close(): void;
}

/** A queue grows only while the machine's own interface is stuck; later datagrams are dropped then. */
const SEND_QUEUE_BYTES_MAX = 256 * 1024;

/**
 * Binds the port on every address, on the one family the machine speaks if need be; with `address` on that one alone,
 * where port 0 is any free one. It keeps no process alive.
 */
export async function openDatagramSocket(port: number, address?: Ip): Promise<DatagramSocket> {
  const wants = (family: Family): boolean => address === undefined || familyOf(address) === family;
  const ip4 = wants(4) ? await bound(4, port, address) : undefined;
  const ip6 = wants(6)
    ? await bound(6, port, address).catch((error: unknown) => {
        ip4?.close();
        throw error;
      })
    : undefined;
  if (ip4 === undefined && ip6 === undefined) throw new Failure("no-udp", "this machine speaks neither IPv4 nor IPv6");
  return joined(ip4, ip6, () => undefined);
}

/** Sockets of both families on one port as one. */
export function joined(
  ip4: Socket | undefined,
  ip6: Socket | undefined,
  sendWhole: (to: Endpoint, datagram: Uint8Array) => void,
): DatagramSocket {
  const socket: DatagramSocket = {
    port: (ip4 ?? ip6)?.address().port ?? 0,
    onReceive: undefined,
    send(to, datagram, whole = false) {
      const out = familyOf(to.address) === 4 ? ip4 : ip6;
      if (out === undefined || out.getSendQueueSize() > SEND_QUEUE_BYTES_MAX) return;
      if (whole) return sendWhole(to, datagram);
      // Without a callback an unreachable network would be an event of the socket's.
      out.send(datagram, to.port, to.address, () => undefined);
    },
    close() {
      socket.onReceive = undefined;
      ip4?.close();
      ip6?.close();
    },
  };
  for (const one of [ip4, ip6])
    one?.on("message", (datagram, from) => {
      // Link-local senders come with their interface, which an endpoint does not have.
      const [address = ""] = from.address.split("%");
      socket.onReceive?.(datagram, { address: parseIp(address), port: from.port });
    });
  return socket;
}

/** Undefined when the machine does not speak the family. */
function bound(family: Family, port: number, address?: Ip): Promise<Socket | undefined> {
  const socket = createSocket({ type: family === 4 ? "udp4" : "udp6", ipv6Only: family === 6 });
  return new Promise((resolve, reject) => {
    socket.once("error", (error: NodeJS.ErrnoException) => {
      socket.close();
      if (error.code === "EAFNOSUPPORT" || error.code === "EADDRNOTAVAIL") resolve(undefined);
      else if (error.code === "EADDRINUSE")
        reject(
          new Failure("port-taken", `UDP port ${port} is in use by another program`, {
            advice: `see which: ss -lunp 'sport = :${port}'`,
          }),
        );
      else reject(new Failure("socket-failed", `cannot bind UDP port ${port}: ${error.message}`, { cause: error }));
    });
    socket.bind({ port, exclusive: true, ...(address === undefined ? {} : { address }) }, () => {
      socket.removeAllListeners("error");
      // An error that belongs to one datagram (ICMP, a route gone) is that datagram's.
      socket.on("error", () => undefined);
      socket.unref();
      resolve(socket);
    });
  });
}
