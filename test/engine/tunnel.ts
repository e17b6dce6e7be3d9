import { Engine } from "../../src/engine/engine.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { parseCidr } from "../../src/kit/ip.js";
import type { Key } from "../../src/kit/key.js";
import type { PeerState, WantInterface, WantPeer } from "../../src/wireguard/interface.js";
import { threadIn } from "./enginethread.js";
import { makePair, must, type Place, removePlaces } from "./places.js";
import { type GoPeer, type Identity, identityOf, type Program, WireguardGo } from "./wireguardgo.js";

/** Our engine at one end of a wire and wireguard-go at the other, each with one peer: the other. */
export const PORT = 51_820;
export const WIRE4 = { ours: "10.99.7.1", theirs: "10.99.7.2" } as const;
export const WIRE6 = { ours: "fd99:7::1", theirs: "fd99:7::2" } as const;
export const OURS = { ip4: "100.64.7.1", ip6: "fd7e:7::1" } as const;
export const THEIRS = { ip4: "100.64.7.2", ip6: "fd7e:7::2" } as const;

export type TunnelOptions = {
  readonly presharedKey?: Key;
  /** Where each finds the other; without it, it waits to be found. */
  readonly ourEndpoint?: string;
  readonly theirEndpoint?: string;
  readonly mtu?: number;
};

export class Tunnel {
  readonly here: Place;
  readonly there: Place;
  readonly device: string;
  readonly go: WireguardGo;
  engine: Engine;
  us: Identity;
  them: Identity;
  #set: WantInterface | undefined;

  private constructor(here: Place, there: Place, device: string, go: WireguardGo) {
    this.here = here;
    this.there = there;
    this.device = device;
    this.go = go;
    this.engine = new Engine({ workerUrl: threadIn(here.name) });
    this.us = identityOf(`${device} us`);
    this.them = identityOf(`${device} them`);
  }

  /** `prefix` begins the names of everything: unique, and at most 12 characters. Nothing is configured yet. */
  static async open(prefix: string, program: Program): Promise<Tunnel> {
    const [here, there] = await makePair(`${prefix}1`, `${prefix}2`);
    const go = await WireguardGo.start(there, `${prefix}b`, program);
    return new Tunnel(here, there, `${prefix}a`, go);
  }

  /** Both ends configured and addressed; a second call begins anew with other addresses, with keys if they changed. */
  async connect(options: TunnelOptions = {}): Promise<void> {
    const mtu = options.mtu ?? 1420;
    await this.go.configure(this.them, PORT, [this.theirPeer(options)]);
    await this.go.up(mtu);
    await this.set({ peers: [this.ourPeer(options)], mtu });
    await must(this.here, `ip link set ${this.device} mtu ${mtu} up`);
    await addressed(this.here, this.device, `${OURS.ip4}/24`, `${OURS.ip6}/64`);
    await addressed(this.there, this.go.device, `${THEIRS.ip4}/24`, `${THEIRS.ip6}/64`);
  }

  /** What is not said stays as it was. */
  async set(change: Partial<WantInterface> = {}): Promise<void> {
    this.#set = { ...(this.#set ?? this.#blank()), ...change };
    await this.engine.set(this.#set);
  }

  get want(): WantInterface {
    return this.#set ?? this.#blank();
  }

  ourPeer(options: TunnelOptions = {}): WantPeer {
    return {
      publicKey: this.them.publicKey,
      ...(options.presharedKey === undefined ? {} : { presharedKey: options.presharedKey }),
      ...(options.theirEndpoint === undefined ? {} : { endpoint: parseEndpoint(options.theirEndpoint) }),
      allowedIps: [parseCidr(THEIRS.ip4), parseCidr(THEIRS.ip6)],
      persistentKeepaliveSeconds: 0,
    };
  }

  theirPeer(options: TunnelOptions = {}): GoPeer {
    return {
      publicKey: this.us.publicKey,
      ...(options.presharedKey === undefined ? {} : { presharedKey: options.presharedKey }),
      ...(options.ourEndpoint === undefined ? {} : { endpoint: options.ourEndpoint }),
      allowedIps: `${OURS.ip4}/32, ${OURS.ip6}/128`,
    };
  }

  async peer(): Promise<PeerState> {
    const [state] = (await this.engine.state()).peers;
    if (state === undefined) throw new Error("the engine has no peer");
    return state;
  }

  async close(): Promise<void> {
    await this.engine.close();
    await this.go.stop();
    removePlaces(this.here.name, this.there.name);
  }

  #blank(): WantInterface {
    return { name: this.device, privateKey: this.us.privateKey, listenPort: PORT, mtu: 1420, fwmark: 0, peers: [] };
  }
}

/** Adds what is missing. */
export async function addressed(place: Place, device: string, ...addresses: readonly string[]): Promise<void> {
  for (const address of addresses)
    await must(place, `ip address replace ${address} dev ${device}${address.includes(":") ? " nodad" : ""}`);
}
