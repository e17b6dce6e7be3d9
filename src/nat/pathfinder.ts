import type { Endpoint } from "../kit/endpoint.js";
import { type Cidr, familyOf } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import { TokenBucket } from "../kit/tokenbucket.js";
import { type CallMeMaybe, PING_BYTES, type Ping, type Pong, type Probe, TRANSACTION_BYTES } from "../wire/probe.js";
import { usableCandidates } from "./candidates.js";
import { DirectPath, UPGRADE_MS } from "./directpath.js";
import { Guessing } from "./guessing.js";
import { obstacleBetween, type Standing, sameStanding, searchesBehind } from "./obstacle.js";
import { type Path, type PathEffect, type Route, sameRoute } from "./path.js";
import { GOOD_ENOUGH_MS, isBetter } from "./pathchoice.js";
import { UDP_OVERHEAD_BYTES } from "./pathmtu.js";
import { Search } from "./search.js";
import { Pings, sameWay, type Trial, Trials } from "./trials.js";

/**
 * One peer's path. Traffic goes through the relay from the first moment; meanwhile both sides tell each other their
 * endpoints through the relay (call-me-maybe) and ping all of the other's at once, so that each opens its own NAT for
 * the other. A way is direct once a pong has come back on it, and stays so while its heartbeats are answered or
 * WireGuard hears the peer there (directpath.ts). In silence, traffic goes both ways at once, then by the relay, and the
 * search begins again. Where one NAT changes its port per destination, ports are guessed (guessing.ts).
 *
 * Everything comes in by a method, with the time; everything that should happen is returned, in order.
 */

/** Without traffic for so long nothing is sent any more. */
export const ACTIVE_MS: Millis = 45 * SECOND;
/** Between searches that found nothing. Never above 45 s: a path that returns is used again within a minute. */
const RETRIES_MS: readonly Millis[] = [5 * SECOND, 10 * SECOND, 20 * SECOND, 30 * SECOND, 45 * SECOND];
/** No endpoint is pinged twice within this, whoever asks for it. */
const PING_GAP_MS: Millis = 100;
/** Guessing begins if the peer has called just now: it does its half then. */
const CALL_FRESH_MS: Millis = 30 * SECOND;
/** Calls of a peer that are listened to: so many at once, then one a second. */
const CALLS_MAX = { perSecond: 1, burst: 6 } as const;

/** How a probe came in; `socket` numbers a birthday socket. */
export type Arrival =
  | { readonly kind: "relay" }
  | { readonly kind: "direct"; readonly from: Endpoint; readonly socket: number | undefined };

export type PathCounts = { pingsSent: number; pongs: number; strays: number; misplaced: number; callsIgnored: number };

export class Pathfinder {
  readonly counts: PathCounts = { pingsSent: 0, pongs: 0, strays: 0, misplaced: 0, callsIgnored: 0 };
  readonly #random: (length: number) => Uint8Array;
  readonly #tunnels: readonly Cidr[];
  readonly #trials = new Trials();
  readonly #pings = new Pings();
  readonly #guessing: Guessing;
  #effects: PathEffect[] = [];

  #here: Standing = { endpoints: [], nat: "unknown" };
  #there: Standing = { endpoints: [], nat: "unknown" };
  #hasRelay = false;
  #route: Route = { kind: "none" };
  #direct: DirectPath | undefined;
  /** The direct path that fell silent: the peer's WireGuard may be there when its agent is not. */
  #silent: DirectPath | undefined;
  /** When the path stopped being direct, and how many searches have ended since the beginning, here. */
  #since: Millis;
  #searches = 0;

  #activeUntil: Millis = -Infinity;
  #wokenAt: Millis = -Infinity;
  #search: Search | undefined;
  #retryAt: Millis = -Infinity;
  #retries = 0;
  /** The peer sends to an address we have left, until it hears of it: a direct path of ours alone is half a path. */
  #callOwed = false;
  #calledAt: Millis = -Infinity;
  readonly #calls = new TokenBucket(CALLS_MAX);

  /** `tunnels`: our own network's ranges, where no peer's endpoint may lie. */
  constructor(random: (length: number) => Uint8Array, tunnels: readonly Cidr[], now: Millis) {
    this.#random = random;
    this.#tunnels = tunnels;
    this.#guessing = new Guessing(random);
    this.#since = now;
  }

  get path(): Path {
    if (this.#direct !== undefined) {
      const { since, trial, mtu, way } = this.#direct;
      return { kind: "direct", since, endpoint: trial.endpoint, roundTripMs: way.roundTripMs, mtu };
    }
    const tried = this.#trials.all.map(({ endpoint }) => endpoint);
    const why = obstacleBetween(this.#here, this.#there, tried);
    const isSure = this.#hasRelay && this.#searches >= searchesBehind(why);
    return isSure ? { kind: "relayed", since: this.#since, why } : { kind: "searching", since: this.#since };
  }

  get route(): Route {
    return this.#route;
  }

  /** When tick() is next due; undefined while nothing will happen by itself. */
  get deadline(): Millis | undefined {
    const times = [this.#guessing.deadline];
    if (this.#search !== undefined) times.push(this.#search.deadline);
    if (this.#isActive) {
      times.push(this.#activeUntil);
      if (this.#direct !== undefined) times.push(this.#direct.deadline(this.#wokenAt));
      else if (this.#search === undefined) times.push(this.#retryAt);
    }
    if (this.#direct !== undefined && this.#route.kind === "direct" && this.#hasRelay)
      times.push(this.#direct.suspectAt);
    return times.every((at) => at === Infinity) ? undefined : Math.min(...times);
  }

  /** This device's endpoints or its NAT have become known. */
  setHere(here: Standing, now: Millis): PathEffect[] {
    if (sameStanding(this.#here, here)) return [];
    this.#here = here;
    this.#guessing.allow();
    if (this.#direct !== undefined) this.#direct.upgradeAt = now;
    else this.#searchAnew(now);
    return this.tick(now);
  }

  /** The peer's endpoints as the network map has them. */
  setPeerEndpoints(endpoints: readonly Endpoint[], now: Millis): PathEffect[] {
    const usable = usableCandidates(endpoints, this.#tunnels);
    this.#trials.setMapped(usable);
    if (this.#there.endpoints.length === 0) this.#there = { ...this.#there, endpoints: usable };
    return this.tick(now);
  }

  setRelay(available: boolean, now: Millis): PathEffect[] {
    const isBack = available && !this.#hasRelay;
    this.#hasRelay = available;
    if (isBack && this.#direct === undefined) this.#searchAnew(now);
    else if (isBack && this.#callOwed) this.#call();
    return this.tick(now);
  }

  /** This machine has moved: nothing known of the way holds. setHere follows when the new endpoints are known. */
  networkChanged(now: Millis): PathEffect[] {
    this.#lose(now);
    this.#trials.reset();
    this.#pings.clear();
    this.#here = { endpoints: [], nat: "unknown" };
    this.#guessing.allow();
    this.#callOwed = true;
    this.#searches = 0;
    this.#searchAnew(now);
    return this.tick(now);
  }

  /** WireGuard sent to the peer or received from it. */
  traffic(now: Millis): PathEffect[] {
    if (now >= this.#activeUntil) {
      this.#wokenAt = now;
      if (this.#search === undefined) this.#searchAnew(now);
    }
    this.#activeUntil = now + ACTIVE_MS;
    return this.tick(now);
  }

  /** WireGuard has heard the peer from there, not before `since`. */
  carried(from: Endpoint, since: Millis, now: Millis): PathEffect[] {
    const way = this.#direct ?? this.#silent;
    if (way?.carried(from, since) === true && way === this.#silent && way.isProven(now)) this.#settle(way);
    return this.tick(now);
  }

  /** A probe that the gate has opened. */
  receive(probe: Probe, arrival: Arrival, now: Millis): PathEffect[] {
    if (probe.kind === "call-me-maybe" && arrival.kind === "relay") this.#called(probe, now);
    else if (probe.kind === "ping" && arrival.kind === "direct") this.#answer(probe, arrival, now);
    else if (probe.kind === "pong" && arrival.kind === "direct") this.#proven(probe, arrival, now);
    else this.counts.misplaced += 1;
    return this.tick(now);
  }

  tick(now: Millis): PathEffect[] {
    if (now >= this.#activeUntil) this.#activeUntil = -Infinity;
    if (this.#direct !== undefined && this.#isActive) this.#tend(this.#direct, now);
    if (this.#silent !== undefined && now >= this.#silent.givenUpAt) this.#silent = undefined;
    const isDue = this.#isActive && now >= this.#retryAt;
    if (this.#direct === undefined && this.#search === undefined && isDue) this.#startSearch(now);
    this.#goOnSearching(now);
    const { sends, effects: closed } = this.#guessing.tick(now);
    for (const { socket, to } of sends) this.#sendPing(to, socket, now, 0);
    this.#do(closed);
    const route = this.#routeAt(now);
    if (!sameRoute(route, this.#route)) {
      this.#route = route;
      this.#effects.push({ kind: "use", route });
    }
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  get #isActive(): boolean {
    return this.#activeUntil !== -Infinity;
  }

  /** Closing sockets is among what is done: then nobody is reached through them any more. */
  #do(effects: readonly PathEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === "keep-sockets") this.#trials.keepSockets(effect.sockets);
      this.#effects.push(effect);
    }
  }

  #routeAt(now: Millis): Route {
    const way = this.#direct ?? this.#silent;
    if (way === undefined) return this.#hasRelay ? { kind: "relay" } : { kind: "none" };
    const { endpoint, socket } = way.trial;
    return { kind: way.isProven(now) || !this.#hasRelay ? "direct" : "both", endpoint, socket };
  }

  /** An active direct path: its end, heartbeats, something better, its MTU. */
  #tend(direct: DirectPath, now: Millis): void {
    if (now >= direct.lostAt(this.#wokenAt)) {
      this.#lose(now);
      if (direct.trial.socket === undefined && !direct.inDoubt) this.#silent = direct;
      this.#searchAnew(now);
      return;
    }
    if (now >= direct.heartbeatAt) this.#ping(direct.trial, now);
    if (now >= direct.upgradeAt) {
      direct.upgradeAt = now + UPGRADE_MS;
      if (direct.way.roundTripMs > GOOD_ENOUGH_MS) this.#pingAll(now);
    }
    const { endpoint, socket } = direct.trial;
    const size = direct.measure(now);
    if (size !== undefined) this.#sendPing(endpoint, socket, now, size);
  }

  #lose(now: Millis): void {
    if (this.#direct !== undefined) this.#since = now;
    this.#direct = undefined;
    this.#silent = undefined;
    this.#do(this.#guessing.end([]));
  }

  #searchAnew(now: Millis): void {
    this.#retries = 0;
    this.#retryAt = now;
    this.#search = undefined;
  }

  #startSearch(now: Millis): void {
    this.#search = new Search(now);
    this.#call();
  }

  #call(): void {
    if (this.#hasRelay) this.#callOwed = false;
    const { endpoints, nat } = this.#here;
    this.#effects.push({ kind: "relay", probe: { kind: "call-me-maybe", nat, endpoints } });
  }

  #goOnSearching(now: Millis): void {
    const search = this.#search;
    if (search === undefined) return;
    if (search.takeRound(now) && this.#direct === undefined) this.#pingAll(now);
    const isCalled = now - this.#calledAt < CALL_FRESH_MS;
    if (this.#direct === undefined && search.mayGuess(now) && isCalled)
      this.#do(this.#guessing.begin(this.#here, this.#there, now));
    if (!search.isOver(now)) return;
    this.#search = undefined;
    this.#searches += 1;
    this.#retryAt = now + (RETRIES_MS[Math.min(this.#retries, RETRIES_MS.length - 1)] ?? 0);
    this.#retries += 1;
  }

  #pingAll(now: Millis): void {
    for (const trial of this.#trials.all) this.#ping(trial, now);
  }

  #ping(trial: Trial, now: Millis): void {
    if (now - trial.pingedAt < PING_GAP_MS) return;
    trial.pingedAt = now;
    this.#sendPing(trial.endpoint, trial.socket, now, 0);
  }

  /** `measures`: the size its IP packet should have; 0 is as small as it is. */
  #sendPing(to: Endpoint, socket: number | undefined, now: Millis, measures: number): void {
    const transaction = this.#random(TRANSACTION_BYTES);
    this.#pings.add(transaction, { to, socket, sentAt: now, measures });
    this.counts.pingsSent += 1;
    const padding = Math.max(0, measures - UDP_OVERHEAD_BYTES[familyOf(to.address)] - PING_BYTES);
    const probe: Ping = { kind: "ping", transaction, padding };
    this.#effects.push({ kind: "probe", to, socket, probe, whole: measures > 0 });
  }

  #answer(ping: Ping, { from, socket }: Extract<Arrival, { kind: "direct" }>, now: Millis): void {
    const probe: Pong = { kind: "pong", transaction: ping.transaction, source: from };
    this.#effects.push({ kind: "probe", to: from, socket, probe, whole: false });
    const current = this.#direct?.trial;
    if (current !== undefined && sameWay(current, { endpoint: from, socket })) return;
    if (usableCandidates([from], this.#tunnels).length > 0) this.#ping(this.#trials.hear(from, socket), now);
  }

  #proven(pong: Pong, { from, socket }: Extract<Arrival, { kind: "direct" }>, now: Millis): void {
    const ping = this.#pings.take(pong.transaction, from, socket, now);
    if (ping === undefined) {
      this.counts.strays += 1;
      return;
    }
    this.counts.pongs += 1;
    const current = this.#direct;
    const isCurrent = current !== undefined && sameWay(current.trial, { endpoint: from, socket });
    const trial = isCurrent ? current.trial : this.#trials.hear(from, socket);
    trial.pong = { at: now, roundTripMs: now - ping.sentAt };
    if (isCurrent) {
      current.inDoubt = false;
      if (ping.measures > 0) current.passed(ping.measures, now);
      return;
    }
    const way = { endpoint: from, roundTripMs: trial.pong.roundTripMs };
    if (current?.isProven(now) === true && !isBetter(way, current.way)) return;
    this.#settle(new DirectPath(trial, now));
  }

  #settle(way: DirectPath): void {
    this.#direct = way;
    this.#silent = undefined;
    [this.#searches, this.#retries] = [2, 0]; // from here on, silence says something
    this.#do(this.#guessing.end(this.#trials.sockets));
  }

  #called({ nat, endpoints }: CallMeMaybe, now: Millis): void {
    if (!this.#calls.spend(1, now)) {
      this.counts.callsIgnored += 1;
      return;
    }
    if (nat !== this.#there.nat) this.#guessing.allow();
    this.#there = { nat, endpoints: usableCandidates(endpoints, this.#tunnels) };
    this.#trials.setCalled(this.#there.endpoints);
    this.#calledAt = now;
    this.#silent = undefined; // its agent is there, and the relay reaches it
    if (this.#direct !== undefined) {
      this.#direct.inDoubt = true;
      this.#ping(this.#direct.trial, now);
    } else if (this.#search === undefined) this.#startSearch(now);
    else if (this.#search.callBack(now)) this.#call();
    this.#pingAll(now);
  }
}
