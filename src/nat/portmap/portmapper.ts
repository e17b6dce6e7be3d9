import { type Endpoint, formatEndpoint } from "../../kit/endpoint.js";
import { isPrivate } from "../../kit/ip.js";
import { MINUTE, type Millis, SECOND } from "../../kit/time.js";
import type { HttpAnswer, PortService, ServiceEffect, ServiceName } from "./service.js";

/**
 * A port on the home router for WireGuard, from whichever service there is. All are looked for at once; the best that
 * was found is asked (on many routers they are one program over one table, so asking all would be asking for trouble),
 * and the next when it refuses. What a router promises is believed only after a dial-back: somebody outside has sent a
 * datagram to the mapping and it came in.
 */

/** Best first: PCP tells the nonce's owner alone, NAT-PMP the gateway's network, UPnP anybody. */
const PREFERENCE: readonly ServiceName[] = ["pcp", "natpmp", "upnp"];
/** What has not answered by then is absent: UPnP may take a second (MX) and has a description to hand out. */
const LOOK_MS: Millis = 2_500;
/** The first to be found waits so long for a better one. */
const BETTER_MS: Millis = 250;
/** A dial-back goes to the coordinator and back. */
export const VERIFY_MS: Millis = 10 * SECOND;
/** When nothing is held, it is looked again: routers are restarted, and settings changed. */
export const LOOK_AGAIN_MS: Millis = 10 * MINUTE;

export type PortMapEffect =
  | (ServiceEffect & { readonly service: ServiceName })
  /** Have somebody outside send a datagram there, and call verified() with the outcome. */
  | { readonly kind: "verify"; readonly endpoint: Endpoint }
  /** What may be told to others from now on. */
  | { readonly kind: "mapped"; readonly endpoint: Endpoint | undefined };

export type PortMapStatus =
  | { readonly kind: "looking" }
  | { readonly kind: "asking"; readonly service: ServiceName }
  | { readonly kind: "verifying"; readonly service: ServiceName; readonly endpoint: Endpoint }
  | { readonly kind: "mapped"; readonly service: ServiceName; readonly endpoint: Endpoint }
  /** `why` for people; one line per service that said something. */
  | { readonly kind: "none"; readonly why: readonly string[] };

export class PortMapper {
  status: PortMapStatus = { kind: "none", why: [] };
  readonly #services: readonly PortService[];
  #tried = new Set<ServiceName>();
  #why: string[] = [];
  /** The end of looking or verifying, or when to look again. */
  #dueAt: Millis | undefined;
  #effects: PortMapEffect[] = [];

  /** One of each kind at most, made for the same gateway and port. */
  constructor(services: readonly PortService[]) {
    this.#services = PREFERENCE.flatMap((name) => services.filter((service) => service.name === name));
  }

  get deadline(): Millis | undefined {
    const times = [this.#dueAt, ...this.#services.map(({ deadline }) => deadline)];
    const soonest = Math.min(...times.map((at) => at ?? Infinity));
    return soonest === Infinity ? undefined : soonest;
  }

  start(now: Millis): PortMapEffect[] {
    this.#become({ kind: "looking" });
    this.#tried = new Set();
    this.#why = [];
    this.#dueAt = now + LOOK_MS;
    for (const service of this.#services) this.#do(service, service.look(now));
    return this.#flush();
  }

  /** Gives everything back. */
  stop(now: Millis): PortMapEffect[] {
    this.#become({ kind: "none", why: ["it was given back"] });
    this.#dueAt = undefined;
    for (const service of this.#services) this.#do(service, service.release(now));
    return this.#flush();
  }

  tick(now: Millis): PortMapEffect[] {
    for (const service of this.#services)
      if (service.deadline !== undefined && now >= service.deadline) this.#do(service, service.tick(now));
    if (this.#dueAt !== undefined && now >= this.#dueAt) {
      this.#dueAt = undefined;
      if (this.status.kind === "none") return this.start(now);
      if (this.status.kind === "verifying") this.#unbelievable(now);
      else if (this.status.kind === "looking") this.#askNext(now);
    }
    return this.#follow(now);
  }

  receive(service: ServiceName, datagram: Uint8Array, from: Endpoint, now: Millis): PortMapEffect[] {
    for (const one of this.#services) if (one.name === service) this.#do(one, one.receive(datagram, from, now));
    return this.#follow(now);
  }

  answered(service: ServiceName, id: number, answer: HttpAnswer | undefined, now: Millis): PortMapEffect[] {
    for (const one of this.#services) if (one.name === service) this.#do(one, one.answered(id, answer, now));
    return this.#follow(now);
  }

  /** The outcome of a dial-back. One for another endpoint than the one in question is late, and nothing. */
  verified(endpoint: Endpoint, reached: boolean, now: Millis): PortMapEffect[] {
    const { status } = this;
    if (status.kind !== "verifying" || formatEndpoint(status.endpoint) !== formatEndpoint(endpoint)) return [];
    this.#dueAt = undefined;
    if (reached) this.#become({ ...status, kind: "mapped" });
    else this.#unbelievable(now);
    return this.#follow(now);
  }

  /** Goes on as the services' states allow. */
  #follow(now: Millis): PortMapEffect[] {
    const { status } = this;
    if (status.kind === "looking") {
      // The best there can be is found, or all have answered: no need to wait.
      const missing = this.#services.findIndex(({ state }) => state.kind === "absent");
      const found = this.#services.findIndex(({ state }) => state.kind === "found");
      if (found >= 0 && (missing < 0 || found < missing)) this.#askNext(now);
      else if (found >= 0) this.#dueAt = Math.min(this.#dueAt ?? now, now + BETTER_MS);
    } else if (status.kind !== "none") {
      const service = this.#services.find(({ name }) => name === status.service);
      if (service !== undefined) this.#followOne(service, now);
    }
    return this.#flush();
  }

  #followOne(service: PortService, now: Millis): void {
    const { state } = service;
    const { status } = this;
    if (state.kind === "held") {
      const held = formatEndpoint(state.external);
      const isKnown = "endpoint" in status && formatEndpoint(status.endpoint) === held;
      if (!isKnown) this.#verify(service.name, state.external, now);
    } else if (state.kind === "absent" || state.kind === "refused") {
      this.#why.push(state.kind === "refused" ? state.words : `${service.name} stopped answering`);
      this.#askNext(now);
    }
  }

  #verify(service: ServiceName, endpoint: Endpoint, now: Millis): void {
    if (isPrivate(endpoint.address)) {
      this.#why.push(`the router is behind another one: its own address is ${endpoint.address}`);
      this.#giveBack(service, now);
      this.#askNext(now);
      return;
    }
    this.#become({ kind: "verifying", service, endpoint });
    this.#dueAt = now + VERIFY_MS;
    this.#effects.push({ kind: "verify", endpoint });
  }

  #unbelievable(now: Millis): void {
    if (this.status.kind !== "verifying") return;
    const { service, endpoint } = this.status;
    this.#why.push(`${service} promised ${formatEndpoint(endpoint)}, and nothing came in there`);
    this.#giveBack(service, now);
    this.#askNext(now);
  }

  #giveBack(name: ServiceName, now: Millis): void {
    for (const service of this.#services) if (service.name === name) this.#do(service, service.release(now));
  }

  /** The best service that is there and was not asked yet. */
  #askNext(now: Millis): void {
    const next = this.#services.find(({ name, state }) => state.kind === "found" && !this.#tried.has(name));
    if (next === undefined) {
      const why = this.#why.length > 0 ? this.#why : ["the router offers neither PCP nor NAT-PMP nor UPnP"];
      this.#become({ kind: "none", why });
      this.#dueAt = now + LOOK_AGAIN_MS;
      return;
    }
    this.#tried.add(next.name);
    this.#dueAt = undefined;
    this.#become({ kind: "asking", service: next.name });
    this.#do(next, next.map(now));
  }

  #become(status: PortMapStatus): void {
    const wasMapped = this.status.kind === "mapped";
    this.status = status;
    if (status.kind === "mapped") this.#effects.push({ kind: "mapped", endpoint: status.endpoint });
    else if (wasMapped) this.#effects.push({ kind: "mapped", endpoint: undefined });
  }

  #do({ name }: PortService, effects: readonly ServiceEffect[]): void {
    for (const effect of effects) this.#effects.push({ ...effect, service: name });
  }

  #flush(): PortMapEffect[] {
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }
}
