import type { Endpoint } from "../kit/endpoint.js";
import { type Family, familyOf, ipBytes } from "../kit/ip.js";
import { Arena } from "./arena.js";
import type { Libc } from "./libc.js";
import { SOCKADDR_BYTES, sockaddrOf } from "./sockaddr.js";

/** <netinet/in.h>: what a socket does about datagrams that are longer than the path's MTU, by family. */
const DISCOVERY: { readonly [family in Family]: { readonly level: number; readonly option: number } } = {
  4: { level: 0, option: 10 },
  6: { level: 41, option: 23 },
};
/** Never cut, whatever the kernel has been told of the path: it is measured anew. */
const PMTUDISC_PROBE = 3;
/** As udp.ts has made the sockets: IPv4 may be cut by every router, IPv6 by us alone. */
const USUAL: { readonly [family in Family]: number } = { 4: 0, 6: 1 };
const MSG_DONTWAIT = 0x40;
/** A jumbo frame's worth. */
const BYTES_MAX = 9_000;

/**
 * Sends single datagrams that arrive in one piece or not at all. The option is the socket's and not the datagram's, so
 * it is set for the one call: nobody else sends meanwhile, for the socket belongs to this thread.
 */
export class WholeDatagrams {
  readonly #libc: Libc;
  readonly #arena: Arena;
  readonly #option: number;
  readonly #to: number;
  readonly #datagram: number;

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#arena = new Arena(libc, 64 + BYTES_MAX);
    this.#option = this.#arena.take(4);
    this.#to = this.#arena.take(SOCKADDR_BYTES);
    this.#datagram = this.#arena.take(BYTES_MAX);
  }

  /** One that does not even fit the machine's own link is lost here. */
  send(fd: number, to: Endpoint, datagram: Uint8Array): void {
    if (datagram.length > BYTES_MAX) return;
    const { bytes, base } = this.#arena;
    const family = familyOf(to.address);
    const sockaddr = sockaddrOf(family, to.port, ipBytes(to.address));
    bytes.set(sockaddr, this.#to);
    bytes.set(datagram, this.#datagram);
    if (!this.#discover(fd, family, PMTUDISC_PROBE)) return;
    this.#libc.sendto(fd, base + this.#datagram, datagram.length, MSG_DONTWAIT, base + this.#to, sockaddr.length);
    this.#discover(fd, family, USUAL[family]);
  }

  #discover(fd: number, family: Family, how: number): boolean {
    const { level, option } = DISCOVERY[family];
    this.#arena.view.setInt32(this.#option, how, true);
    return this.#libc.setsockopt(fd, level, option, this.#arena.base + this.#option, 4) === 0;
  }
}
