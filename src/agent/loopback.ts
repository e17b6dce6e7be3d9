import type { Endpoint } from "../kit/endpoint.js";
import { type Cidr, cidrContains, type Ip, ipFromBytes, parseCidr } from "../kit/ip.js";
import { type Key, keyBytes } from "../kit/key.js";

/**
 * WireGuard has one endpoint per peer. What goes to a peer by a relay, by two ways at once or from another port is
 * given an endpoint on this machine: an address of the peer's own in LOOPBACK_RANGE (RFC 1122 §3.2.1.3: it never leaves
 * the machine), where a socket of the agent's takes it on. WireGuard sees the peer there, whichever way it came.
 */
const LOOPBACK_RANGE: Cidr = parseCidr("127.128.0.0/9");

const LISTEN_PORT_DEFAULT = 51_820;
const PORT_MAX = 65_535;

/** Beside WireGuard's port and its neighbour, which is the probes' (netconf/probemux.ts): two agents here do not meet. */
export function loopbackPortOf(listenPort: number): number {
  const port = (listenPort === 0 ? LISTEN_PORT_DEFAULT : listenPort) + 2;
  return port > PORT_MAX ? port - 4 : port;
}

/**
 * Out of the key, so that an interface that outlives its agent finds the next one at the same endpoint. Of two keys
 * that have the same address the second gets the next one that is not taken.
 */
export function loopbackOf(publicKey: Key, port: number, isTaken: (address: Ip) => boolean): Endpoint {
  const [, a = 0, b = 0, c = 0] = keyBytes(publicKey);
  for (let low = c; ; low++) {
    // Neither the first nor the last address of a network: some programs treat them so.
    const address = ipFromBytes(Uint8Array.of(127, 128 | a, b, 1 + (low % 254)));
    if (!isTaken(address) || low === c + 253) return { address, port };
  }
}

export const isLoopback = (address: Ip): boolean => cidrContains(LOOPBACK_RANGE, address);
