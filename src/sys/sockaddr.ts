import type { Endpoint } from "../kit/endpoint.js";
import { type Family, familyOf, type Ip, ipBytes, ipFromBytes } from "../kit/ip.js";

/**
 * Socket addresses (<netinet/in.h>), and the address of ours that a datagram came to (ip(7), ipv6(7)):
 *
 *   sockaddr_in   0  u16 LE family 2    2  u16 BE port   4  address            16 bytes
 *   sockaddr_in6  0  u16 LE family 10   2  u16 BE port   4  flow   8  address  24  scope   28 bytes
 *   in_pktinfo    0  u32 interface      4  ours, to send from   8  the one written to   12 bytes
 *   in6_pktinfo   0  ours              16  u32 interface        20 bytes
 */
const AF_INET = 2;
const AF_INET6 = 10;
export const SOCKADDR_BYTES = 28;
const SOCKADDR_IN_BYTES = 16;

/** The wildcard address of the family when no address is given. */
export function sockaddrOf(family: Family, port: number, address?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(family === 4 ? SOCKADDR_IN_BYTES : SOCKADDR_BYTES);
  bytes[0] = family === 4 ? AF_INET : AF_INET6;
  bytes[2] = port >> 8;
  bytes[3] = port & 0xff;
  if (address !== undefined) bytes.set(address, family === 4 ? 4 : 8);
  return bytes;
}

/** An endpoint as the sockets know it: its address spelled for the kernel, and the address of ours it is reached from. */
export class Remote implements Endpoint {
  readonly address: Ip;
  readonly port: number;
  readonly family: Family;
  readonly sockaddr: Uint8Array;
  /** Ours, which the peer wrote to and expects answers from; undefined leaves the choice to the kernel. */
  source: Uint8Array | undefined;

  constructor(family: Family, address: Uint8Array, port: number, source: Uint8Array | undefined) {
    this.address = ipFromBytes(address);
    this.port = port;
    this.family = family;
    this.sockaddr = sockaddrOf(family, port, address);
    this.source = source;
  }
}

/** Senders remembered so that their address is not spelled out for every datagram; at the bound, all are forgotten. */
export const SENDERS_MAX = 4_096;

/** Remotes by what the kernel writes, and by endpoint: a peer's datagrams keep coming from one address and going to one. */
export class Remotes {
  readonly #senders = new Map<number, Remote>();
  readonly #ofEndpoint = new WeakMap<Endpoint, Remote>();
  /** By a hash: of two that share one, the last to be heard is remembered. */
  readonly #senders6 = new Map<number, Remote>();

  of(endpoint: Endpoint): Remote {
    if (endpoint instanceof Remote) return endpoint;
    let remote = this.#ofEndpoint.get(endpoint);
    if (remote === undefined) {
      remote = new Remote(familyOf(endpoint.address), ipBytes(endpoint.address), endpoint.port, undefined);
      this.#ofEndpoint.set(endpoint, remote);
    }
    return remote;
  }

  /**
   * The sender whose socket address the kernel wrote at `at`, reached from the address of ours at `sourceAt`
   * (0: not told). One sender written to at another address of ours is another Remote.
   */
  from(memory: Uint8Array, view: DataView, at: number, sourceAt: number): Remote {
    if (memory[at] !== AF_INET) return this.#from6(memory, view, at, sourceAt);
    // An address and a port are 48 bits: exact in a double.
    const key = view.getUint32(at + 4, false) * 0x1_0000 + view.getUint16(at + 2, false);
    const known = this.#senders.get(key);
    if (known !== undefined && (sourceAt === 0 || same(known.source, memory, sourceAt, 4))) return known;
    if (this.#senders.size >= SENDERS_MAX) this.#senders.clear();
    const source = sourceAt === 0 ? undefined : memory.slice(sourceAt, sourceAt + 4);
    const remote = new Remote(4, memory.slice(at + 4, at + 8), view.getUint16(at + 2, false), source);
    this.#senders.set(key, remote);
    return remote;
  }

  #from6(memory: Uint8Array, view: DataView, at: number, sourceAt: number): Remote {
    let key = view.getUint16(at + 2);
    for (let i = 8; i < SOCKADDR_BYTES; i += 4) key = Math.imul(key ^ view.getUint32(at + i), 0x9e37_79b1);
    const known = this.#senders6.get(key);
    if (
      known !== undefined &&
      sameFrom(known.sockaddr, 8, memory, at + 8, SOCKADDR_BYTES - 8) &&
      known.port === view.getUint16(at + 2, false) &&
      (sourceAt === 0 || same(known.source, memory, sourceAt, 16))
    )
      return known;
    if (this.#senders6.size >= SENDERS_MAX) this.#senders6.clear();
    const source = sourceAt === 0 ? undefined : memory.slice(sourceAt, sourceAt + 16);
    const remote = new Remote(6, memory.slice(at + 8, at + 24), view.getUint16(at + 2, false), source);
    // The scope of a link-local address.
    remote.sockaddr.set(memory.subarray(at + 24, at + SOCKADDR_BYTES), 24);
    this.#senders6.set(key, remote);
    return remote;
  }
}

function same(known: Uint8Array | undefined, memory: Uint8Array, at: number, length: number): boolean {
  return known !== undefined && sameFrom(known, 0, memory, at, length);
}

function sameFrom(known: Uint8Array, from: number, memory: Uint8Array, at: number, length: number): boolean {
  for (let i = 0; i < length; i++) if (known[from + i] !== memory[at + i]) return false;
  return true;
}
