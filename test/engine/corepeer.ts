import type { Socket } from "node:dgram";
import { performance } from "node:perf_hooks";
import { type Endpoint, parseEndpoint } from "../../src/kit/endpoint.js";
import { type Cidr, familyOf, ipBytes, parseCidr, parseIp } from "../../src/kit/ip.js";
import type { Key } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { systemRandom } from "../../src/sys/random.js";
import { Device, type Effect } from "../../src/wireguard/device.js";
import type { Keypair } from "../../src/wireguard/keypairs.js";
import { echoReplyTo, echoRequest, isEchoReply } from "../wireguard/icmp.js";
import { until } from "./patience.js";
import type { Place } from "./places.js";
import { socketIn } from "./placesocket.js";
import type { Identity } from "./wireguardgo.js";

/** A WireGuard peer without a TUN device: the protocol's core on a socket of a place, with a clock that can be wrong. */
export type CorePeerOptions = {
  readonly identity: Identity;
  readonly other: Key;
  /** Where the other is; without it, it waits to be found. */
  readonly endpoint?: string;
  readonly own: string;
  readonly allowedIps: readonly string[];
  readonly persistentKeepaliveSeconds?: number;
  /** Added to both clocks from the beginning. */
  readonly wallOffsetMs?: Millis;
};

export class CorePeer {
  readonly device: Device;
  readonly delivered: Uint8Array[] = [];
  /** Every datagram that came. */
  readonly heard: { readonly type: number; readonly length: number; readonly at: Millis; readonly from: Endpoint }[] =
    [];
  replies = 0;
  readonly #socket: Socket;
  readonly #options: CorePeerOptions;
  #wallOffset: Millis;
  #ahead: Millis = 0;
  #sequence = 0;
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: Socket, options: CorePeerOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#wallOffset = options.wallOffsetMs ?? 0;
    this.device = new Device({ random: systemRandom, wallMs: () => Date.now() + this.#wallOffset });
    socket.on("message", (datagram, { address, port }) => {
      const from = { address: parseIp(address), port };
      this.heard.push({ type: datagram[0] ?? 0, length: datagram.length, at: performance.now(), from });
      this.#carry(this.device.receive(datagram, from, this.now));
    });
  }

  /** At an address and port of the place; port 0 is any. */
  static async open(
    place: Place,
    at: Endpoint | { address: string; port: 0 },
    options: CorePeerOptions,
  ): Promise<CorePeer> {
    const peer = new CorePeer(await socketIn(place, at.address, at.port), options);
    peer.#configure();
    return peer;
  }

  get identity(): Identity {
    return this.#options.identity;
  }

  get own(): string {
    return this.#options.own;
  }

  get endpoint(): Endpoint {
    const { address, port } = this.#socket.address();
    return { address: parseIp(address), port };
  }

  get now(): Millis {
    return performance.now() + this.#ahead;
  }

  /** Lets time pass for this peer alone: what its timers want is done at once. */
  passTime(duration: Millis): void {
    this.#ahead += duration;
    this.#wallOffset += duration;
    this.#carry(this.device.tick(this.now));
  }

  ping(to: string): void {
    this.sendPacket(echoRequest(this.#options.own, to, ++this.#sequence));
  }

  /** An echo over IPv4 that is answered. */
  async pings(to: string): Promise<void> {
    const before = this.replies;
    this.ping(to);
    await until(`${to} answers ${this.#options.own}`, () => this.replies > before);
  }

  sendPacket(packet: Uint8Array): void {
    this.#carry(this.device.send(packet, this.now));
  }

  /** The session it would send with to that address. */
  sessionTo(address: string): Keypair {
    const session = this.device.route(ipBytes(parseIp(address)), 0, familyOf(parseIp(address)))?.outlet(this.now);
    if (session === undefined) throw new Error(`no session to ${address}`);
    return session;
  }

  sendDatagram(datagram: Uint8Array, to: Endpoint): void {
    this.#socket.send(datagram, to.port, to.address);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#socket.close();
  }

  #configure(): void {
    const { identity, other, endpoint, allowedIps, persistentKeepaliveSeconds = 0 } = this.#options;
    const peer = {
      publicKey: other,
      ...(endpoint === undefined ? {} : { endpoint: parseEndpoint(endpoint) }),
      allowedIps: allowedIps.map((cidr): Cidr => parseCidr(cidr)),
      persistentKeepaliveSeconds,
    };
    this.#carry(this.device.configure({ privateKey: identity.privateKey, peers: [peer], mtu: 1420 }, this.now));
  }

  #carry(effects: readonly Effect[]): void {
    for (const effect of effects)
      if (effect.kind === "send") this.#socket.send(effect.datagram, effect.to.port, effect.to.address);
      else this.#deliver(effect.packet);
    clearTimeout(this.#timer);
    const { deadline } = this.device;
    if (deadline === undefined) return;
    this.#timer = setTimeout(() => this.#carry(this.device.tick(this.now)), Math.max(0, deadline - this.now) + 1);
  }

  #deliver(packet: Uint8Array): void {
    this.delivered.push(packet);
    if (isEchoReply(packet)) this.replies++;
    const reply = echoReplyTo(packet);
    if (reply !== undefined) this.sendPacket(reply);
  }
}
