import type { Endpoint } from "../kit/endpoint.js";
import { type Family, familyOf, ipBytes, ipFromBytes } from "../kit/ip.js";

/**
 * Socket addresses (<netinet/in.h>):
 *
 *   sockaddr_in   0  u16 LE family 2    2  u16 BE port   4  address            16 bytes
 *   sockaddr_in6  0  u16 LE family 10   2  u16 BE port   4  flow   8  address  24  scope   28 bytes
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

export function readSockaddr(bytes: Uint8Array): Endpoint {
  const four = bytes[0] === AF_INET;
  const port = ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0);
  return { address: ipFromBytes(four ? bytes.slice(4, 8) : bytes.slice(8, 24)), port };
}

/** Senders remembered so that their address is not spelled out for every datagram; at the bound, all are forgotten. */
export const SENDERS_MAX = 4_096;

/** Both directions, remembered: a peer's datagrams keep coming from one address and going to one. */
export class Sockaddrs {
  readonly #senders = new Map<number, Endpoint>();
  readonly #encoded = new WeakMap<Endpoint, Uint8Array>();
  #last6: { readonly bytes: Uint8Array; readonly endpoint: Endpoint } | undefined;

  encode(endpoint: Endpoint): Uint8Array {
    let bytes = this.#encoded.get(endpoint);
    if (bytes === undefined) {
      bytes = sockaddrOf(familyOf(endpoint.address), endpoint.port, ipBytes(endpoint.address));
      this.#encoded.set(endpoint, bytes);
    }
    return bytes;
  }

  /** What the kernel wrote at `at`. */
  decode(memory: Uint8Array, view: DataView, at: number): Endpoint {
    if (memory[at] !== AF_INET) return this.#decode6(memory, at);
    // An address and a port are 48 bits: exact in a double.
    const key = view.getUint32(at + 4, false) * 0x1_0000 + view.getUint16(at + 2, false);
    let endpoint = this.#senders.get(key);
    if (endpoint === undefined) {
      if (this.#senders.size >= SENDERS_MAX) this.#senders.clear();
      endpoint = readSockaddr(memory.subarray(at, at + SOCKADDR_IN_BYTES));
      this.#senders.set(key, endpoint);
    }
    return endpoint;
  }

  #decode6(memory: Uint8Array, at: number): Endpoint {
    // The flow label differs between datagrams of one sender and says nothing of where it is.
    memory.fill(0, at + 4, at + 8);
    if (this.#last6?.bytes.every((byte, i) => memory[at + i] === byte)) return this.#last6.endpoint;
    const bytes = memory.slice(at, at + SOCKADDR_BYTES);
    this.#last6 = { bytes, endpoint: readSockaddr(bytes) };
    return this.#last6.endpoint;
  }
}
