import { Failure } from "../kit/failure.js";
import type { Family } from "../kit/ip.js";
import { Arena } from "./arena.js";
import { ERRNO, type Libc, O_CLOEXEC, systemFailure } from "./libc.js";
import { SOCKADDR_BYTES, sockaddrOf } from "./sockaddr.js";

/** A UDP socket of one family as a bare descriptor, for the packet engine; everybody else uses node:dgram. */
export type UdpSocket = {
  readonly fd: number;
  readonly port: number;
  /** The kernel joins datagrams of one sender on receiving (UDP_GRO, Linux 5.0). */
  readonly joins: boolean;
  /** The kernel cuts a message into datagrams on sending (UDP_SEGMENT, Linux 4.18). */
  readonly cuts: boolean;
};
export type UdpOptions = {
  readonly mark: number;
  /** Whether the kernel may join received datagrams. */
  readonly join: boolean;
  readonly onWarning: (text: string) => void;
};

/** <sys/socket.h>, <netinet/in.h> */
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_SNDTIMEO = 21;
const SO_MARK = 36;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const SOL_UDP = 17;
const IPV6_V6ONLY = 26;
const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IP_RECVTOS = 13;
const IP_PMTUDISC_DONT = 0;
const IPV6_RECVPKTINFO = 49;
const IPV6_RECVTCLASS = 66;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;

/** 50 ms of a gigabit a second: what may come in while the engine is busy or not scheduled. */
const SOCKET_BUFFER_BYTES = 7 * 1024 * 1024;
/** A full send buffer holds the engine up no longer than this; then the datagram is dropped. */
const SEND_TIMEOUT_MS = 100;

/** Undefined when the machine does not speak the family. Port 0 takes any free one. */
function openUdp(libc: Libc, family: Family, port: number, options: UdpOptions): UdpSocket | undefined {
  const fd = libc.socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | O_CLOEXEC, 0);
  if (fd < 0) {
    if (libc.errno() === ERRNO.EAFNOSUPPORT) return undefined;
    throw systemFailure(libc, `make an IPv${family} UDP socket`);
  }
  try {
    return { fd, port: bindSocket(libc, fd, family, port, options), ...offloads(libc, fd, options.join) };
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

function bindSocket(libc: Libc, fd: number, family: Family, port: number, options: UdpOptions): number {
  const arena = new Arena(libc, 128);
  const value = arena.take(16);
  const set = (level: number, option: number, number: number): boolean => {
    arena.view.setInt32(value, number, true);
    return libc.setsockopt(fd, level, option, arena.base + value, 4) === 0;
  };
  if (family === 6 && !set(IPPROTO_IPV6, IPV6_V6ONLY, 1)) throw systemFailure(libc, "make a socket IPv6 only");
  // The forced variants go beyond net.core.rmem_max and need CAP_NET_ADMIN in the initial user namespace.
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES)) set(SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES);
  if (!set(SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES)) set(SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
  // Told with every datagram: which address of ours it came to, so that answers leave from there, and its ECN.
  if (family === 4) {
    set(IPPROTO_IP, IP_PKTINFO, 1);
    set(IPPROTO_IP, IP_RECVTOS, 1);
    // As the kernel's WireGuard does: routers may cut the outer datagram, whose inner packet has its own MTU.
    set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  } else {
    set(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    set(IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  }
  arena.view.setUint32(value, 0, true);
  arena.view.setUint32(value + 8, SEND_TIMEOUT_MS * 1_000, true);
  libc.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, arena.base + value, 16);
  if (options.mark !== 0) markSocket(libc, fd, options);

  const address = arena.take(SOCKADDR_BYTES);
  const sockaddr = sockaddrOf(family, port);
  arena.bytes.set(sockaddr, address);
  if (libc.bind(fd, arena.base + address, sockaddr.length) < 0) {
    if (libc.errno() === ERRNO.EADDRINUSE)
      throw new Failure("port-taken", `UDP port ${port} is in use by another program`, {
        advice: `see which: ss -lunp 'sport = :${port}'`,
      });
    throw systemFailure(libc, `bind UDP port ${port}`);
  }
  const length = arena.take(16);
  arena.view.setUint32(length, SOCKADDR_BYTES, true);
  if (libc.getsockname(fd, arena.base + address, arena.base + length) < 0)
    throw systemFailure(libc, "read back the port of a socket");
  return arena.view.getUint16(address + 2, false);
}

/** Turns on what the kernel has. */
function offloads(libc: Libc, fd: number, join: boolean): { joins: boolean; cuts: boolean } {
  const arena = new Arena(libc, 16);
  const set = (option: number, number: number): boolean => {
    arena.view.setInt32(0, number, true);
    return libc.setsockopt(fd, SOL_UDP, option, arena.base, 4) === 0;
  };
  // A size of 0 leaves it to each message.
  return { joins: join && set(UDP_GRO, 1), cuts: set(UDP_SEGMENT, 0) };
}

/** Marks what the socket sends from now on. */
export function markSocket(libc: Libc, fd: number, { mark, onWarning }: UdpOptions): void {
  const value = new Arena(libc, 16);
  value.view.setUint32(0, mark, true);
  if (libc.setsockopt(fd, SOL_SOCKET, SO_MARK, value.base, 4) !== 0)
    onWarning(`packets cannot be marked 0x${mark.toString(16)} without CAP_NET_ADMIN`);
}

/** Tries at a port that is free for both families, when any will do. */
const ANY_PORT_ATTEMPTS = 16;

export type UdpPair = {
  readonly port: number;
  readonly ip4: UdpSocket | undefined;
  readonly ip6: UdpSocket | undefined;
};

/** One port on both families, or on the one the machine speaks. */
export function openUdpPair(libc: Libc, port: number, options: UdpOptions): UdpPair {
  for (let attempt = 1; ; attempt++) {
    const ip4 = openUdp(libc, 4, port, options);
    try {
      const ip6 = openUdp(libc, 6, ip4?.port ?? port, options);
      const bound = ip4?.port ?? ip6?.port;
      if (bound === undefined) throw new Failure("no-udp", "this machine speaks neither IPv4 nor IPv6");
      return { port: bound, ip4, ip6 };
    } catch (error) {
      if (ip4 !== undefined) libc.close(ip4.fd);
      const taken = error instanceof Failure && error.code === "port-taken";
      if (!taken || port !== 0 || attempt >= ANY_PORT_ATTEMPTS) throw error;
    }
  }
}

export function closeUdpPair(libc: Libc, pair: UdpPair): void {
  for (const socket of [pair.ip4, pair.ip6]) if (socket !== undefined) libc.close(socket.fd);
}
