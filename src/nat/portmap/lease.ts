import { toHex } from "../../kit/bytes.js";
import { type Endpoint, formatEndpoint } from "../../kit/endpoint.js";
import { type Ip, ipFromBytes } from "../../kit/ip.js";
import type { Millis } from "../../kit/time.js";
import { type Epoch, isReset } from "./epoch.js";
import { decodeNatPmp, encodeAddressRequest, encodeMapRequest, NATPMP_PORT } from "./natpmp.js";
import { decodePcp, encodeAnnounce, encodePcpMap, PCP_NONCE_BYTES, PCP_PORT } from "./pcp.js";
import {
  LEASE_SECONDS,
  type PortService,
  REQUEST_TRIES_MS,
  renewalOf,
  type ServiceEffect,
  type ServiceState,
} from "./service.js";

/**
 * A mapping asked of the gateway by PCP or NAT-PMP: sent again until answered, renewed at half its life, and asked for
 * anew when the router has restarted. What differs between the two is in a Dialect.
 */
interface Dialect {
  readonly name: "pcp" | "natpmp";
  readonly port: number;
  look(): Uint8Array[];
  /** `lifetimeSeconds` 0 releases; `wantedPort` is the one held before. */
  map(wantedPort: number, lifetimeSeconds: number): Uint8Array[];
  read(datagram: Uint8Array): Heard | undefined;
}

type Heard =
  | { readonly kind: "here"; readonly epoch: number; readonly address: Ip | undefined }
  | {
      readonly kind: "mapped";
      readonly epoch: number;
      readonly externalPort: number;
      readonly address: Ip | undefined;
      readonly lifetimeSeconds: number;
    }
  | { readonly kind: "refused"; readonly epoch: number; readonly words: string };

/** `client`: this device's address on the gateway's network. */
export function pcpService(
  gateway: Ip,
  client: Ip,
  internalPort: number,
  random: (length: number) => Uint8Array,
): PortService {
  // §11.2: the nonce proves ownership of the mapping, and stays the same as long as it is renewed.
  const nonce = random(PCP_NONCE_BYTES);
  return new Lease(gateway, internalPort, {
    name: "pcp",
    port: PCP_PORT,
    look: () => [encodeAnnounce(client)],
    map: (externalPort, lifetimeSeconds) => [
      encodePcpMap({ nonce, client, internalPort, externalPort, lifetimeSeconds }),
    ],
    read(datagram) {
      const answer = decodePcp(datagram);
      if (answer?.kind === "here") return { ...answer, address: undefined };
      if (answer?.kind !== "mapped") return answer;
      return answer.internalPort === internalPort && toHex(answer.nonce) === toHex(nonce) ? answer : undefined;
    },
  });
}

export function natPmpService(gateway: Ip, internalPort: number): PortService {
  return new Lease(gateway, internalPort, {
    name: "natpmp",
    port: NATPMP_PORT,
    look: () => [encodeAddressRequest()],
    map: (wantedPort, lifetimeSeconds) =>
      lifetimeSeconds === 0
        ? [encodeMapRequest(internalPort, 0, 0)]
        : [encodeAddressRequest(), encodeMapRequest(internalPort, wantedPort, lifetimeSeconds)],
    read(datagram) {
      const answer = decodeNatPmp(datagram);
      if (answer?.kind === "address") return { kind: "here", epoch: answer.epoch, address: answer.address };
      if (answer?.kind !== "mapped") return answer;
      return answer.internalPort === internalPort ? { ...answer, address: undefined } : undefined;
    },
  });
}

const NOWHERE = ipFromBytes(new Uint8Array(4));

class Lease implements PortService {
  readonly name: "pcp" | "natpmp";
  state: ServiceState = { kind: "absent" };
  readonly #dialect: Dialect;
  readonly #gateway: Endpoint;
  /** What is being asked, how often it was, and when it is asked again. */
  #request: { readonly kind: "look" | "map"; tries: number; dueAt: Millis } | undefined;
  #address: Ip | undefined;
  #externalPort: number | undefined;
  #lifetimeMs: Millis = 0;
  #wantedPort: number;
  #epoch: Epoch | undefined;

  constructor(gateway: Ip, internalPort: number, dialect: Dialect) {
    this.name = dialect.name;
    this.#dialect = dialect;
    this.#gateway = { address: gateway, port: dialect.port };
    this.#wantedPort = internalPort;
  }

  get deadline(): Millis | undefined {
    if (this.#request !== undefined) return this.#request.dueAt;
    return this.state.kind === "held" ? this.state.renewAt : undefined;
  }

  look(now: Millis): ServiceEffect[] {
    this.state = { kind: "absent" };
    this.#request = { kind: "look", tries: 0, dueAt: now };
    return this.tick(now);
  }

  map(now: Millis): ServiceEffect[] {
    if (this.state.kind !== "held") this.state = { kind: "asking" };
    this.#externalPort = undefined;
    this.#request = { kind: "map", tries: 0, dueAt: now };
    return this.tick(now);
  }

  release(_now: Millis): ServiceEffect[] {
    const isHeld = this.state.kind === "held";
    this.#request = undefined;
    this.state = { kind: "absent" };
    return isHeld ? this.#send(this.#dialect.map(this.#wantedPort, 0)) : [];
  }

  tick(now: Millis): ServiceEffect[] {
    if (this.#request === undefined && this.state.kind === "held" && now >= this.state.renewAt) return this.map(now);
    const request = this.#request;
    if (request === undefined || now < request.dueAt) return [];
    const wait = REQUEST_TRIES_MS[request.tries];
    if (wait === undefined) {
      this.#request = undefined;
      this.state = { kind: "absent" };
      return [];
    }
    request.tries += 1;
    request.dueAt = now + wait;
    const { look, map } = this.#dialect;
    return this.#send(request.kind === "look" ? look() : map(this.#wantedPort, LEASE_SECONDS));
  }

  receive(datagram: Uint8Array, from: Endpoint, now: Millis): ServiceEffect[] {
    // RFC 6886 §3.1, RFC 6887 §8.3: whoever else answers is an attacker.
    if (formatEndpoint(from) !== formatEndpoint(this.#gateway)) return [];
    const heard = this.#dialect.read(datagram);
    if (heard === undefined) return [];
    const epoch = { seconds: heard.epoch, at: now };
    const hasRestarted = isReset(this.#epoch, epoch);
    this.#epoch = epoch;
    if (heard.kind === "refused") this.#refused(heard.words);
    else if (heard.kind === "here") this.#here(heard.address, now);
    else this.#mapped(heard, now);
    return hasRestarted && this.state.kind === "held" && heard.kind !== "mapped" ? this.map(now) : [];
  }

  answered(): ServiceEffect[] {
    return [];
  }

  #refused(words: string): void {
    if (this.#request === undefined) return;
    this.#request = undefined;
    this.state = { kind: "refused", words };
  }

  #here(address: Ip | undefined, now: Millis): void {
    this.#address = address ?? this.#address;
    if (this.#request?.kind === "look") {
      this.#request = undefined;
      this.state = { kind: "found" };
    } else this.#hold(this.#lifetimeMs, now);
  }

  #mapped(heard: Extract<Heard, { kind: "mapped" }>, now: Millis): void {
    if (this.#request?.kind !== "map") return;
    this.#address = heard.address ?? this.#address;
    this.#externalPort = heard.externalPort;
    this.#lifetimeMs = heard.lifetimeSeconds * 1_000;
    this.#hold(this.#lifetimeMs, now);
  }

  /** Held once address and port are both known: NAT-PMP tells them in two answers. */
  #hold(lifetimeMs: Millis, now: Millis): void {
    if (this.#request?.kind !== "map" || this.#address === undefined || this.#externalPort === undefined) return;
    this.#request = undefined;
    if (this.#address === NOWHERE || this.#externalPort === 0) {
      this.state = { kind: "refused", words: "the router has no address of its own yet" };
      return;
    }
    this.#wantedPort = this.#externalPort;
    const external = { address: this.#address, port: this.#externalPort };
    this.state = { kind: "held", external, renewAt: now + renewalOf(lifetimeMs) };
  }

  #send(datagrams: readonly Uint8Array[]): ServiceEffect[] {
    return datagrams.map((datagram) => ({ kind: "datagram", to: this.#gateway, datagram }));
  }
}
