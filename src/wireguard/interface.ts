import type { Endpoint } from "../kit/endpoint.js";
import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";

/** What a WireGuard interface should be: one value for the kernel backend and for the userspace engine. */
export type WantInterface = {
  readonly name: string;
  readonly privateKey: Key;
  readonly listenPort: number;
  readonly mtu: number;
  /** Set on every datagram the interface sends, so that policy routing can exempt it; 0 is none. */
  readonly fwmark: number;
  readonly peers: readonly WantPeer[];
};

export type WantPeer = {
  readonly publicKey: Key;
  readonly presharedKey?: Key;
  /** Where to send until the peer is heard from elsewhere; a later authenticated datagram moves it (roaming). */
  readonly endpoint?: Endpoint;
  readonly allowedIps: readonly Cidr[];
  /** 0 is off. */
  readonly persistentKeepaliveSeconds: number;
};

export type InterfaceState = {
  readonly name: string;
  readonly listenPort: number;
  readonly peers: readonly PeerState[];
  /** Missing offloads and the like, in words for `status`. */
  readonly warnings: readonly string[];
  /** Where the data plane counts them. */
  readonly unsent?: Unsent;
};

/** What did not leave this machine since the interface was made. */
export type Unsent = {
  /** The tunnel's own datagrams, which the machine's routes led back into it: sealed again, they would never end. */
  readonly looped: number;
  /** Datagrams the machine refused: no route, a full queue, a firewall. */
  readonly refused: number;
};

export type PeerState = {
  readonly publicKey: Key;
  readonly endpoint?: Endpoint;
  /** Age of the last completed handshake; undefined when there was none. */
  readonly lastHandshakeAgeMs?: Millis;
  readonly receivedBytes: number;
  readonly sentBytes: number;
};

/** Kernel WireGuard and the userspace engine are interchangeable: both pass one contract suite. */
export interface Backend {
  readonly kind: "kernel" | "userspace";
  /** Makes the interface match, creating it when absent; an equal value changes nothing, sessions of kept peers live on. */
  set(want: WantInterface): Promise<void>;
  state(): Promise<InterfaceState>;
  /** Sends to that endpoint from now on, wherever the peer was heard from meanwhile; nothing for a peer not set. */
  point(publicKey: Key, endpoint: Endpoint): Promise<void>;
  /** Removes the interface. */
  close(): Promise<void>;
  /** Datagrams of ours on the interface's own UDP port, beside WireGuard's. */
  readonly probes?: Probes;
}

/** Whatever arrives on the port and datagramKind() calls a probe or STUN goes to `onReceive`, not to WireGuard. */
export interface Probes {
  /**
   * Sent from the interface's port; lost, as datagrams may be, without an interface or a route. A `whole` one is cut
   * neither here nor on the way: where it does not fit it is lost, and so it measures the path (RFC 8899 §4.1).
   */
  send(to: Endpoint, datagram: Uint8Array, whole?: boolean): void;
  /** The one listener; undefined drops them. */
  onReceive: ((datagram: Uint8Array, from: Endpoint) => void) | undefined;
}
