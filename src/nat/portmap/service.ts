import type { Endpoint } from "../../kit/endpoint.js";
import { MINUTE, type Millis, SECOND } from "../../kit/time.js";

/**
 * What the three ways to ask a router for a port have in common: each is looked for, then asked, then renewed. A
 * service is a core without sockets; the port mapper drives whichever is there.
 */
export type ServiceName = "pcp" | "natpmp" | "upnp";

export type HttpRequest = {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

export type ServiceEffect =
  | { readonly kind: "datagram"; readonly to: Endpoint; readonly datagram: Uint8Array }
  /** Answered by answered(id, …), always: with undefined when nothing came within HTTP_TIMEOUT_MS. */
  | { readonly kind: "http"; readonly id: number; readonly request: HttpRequest };

export type ServiceState =
  /** Nothing has answered. */
  | { readonly kind: "absent" }
  /** It is there, and was not asked for a port. */
  | { readonly kind: "found" }
  | { readonly kind: "asking" }
  | { readonly kind: "held"; readonly external: Endpoint; readonly renewAt: Millis }
  /** It said no: `words` for people. */
  | { readonly kind: "refused"; readonly words: string };

export interface PortService {
  readonly name: ServiceName;
  readonly state: ServiceState;
  /** When tick() is next due; undefined while nothing will happen by itself. */
  readonly deadline: Millis | undefined;
  /** Is there such a service? */
  look(now: Millis): ServiceEffect[];
  /** Asks for a mapping to the port it was made for, and keeps it until release(). */
  map(now: Millis): ServiceEffect[];
  release(now: Millis): ServiceEffect[];
  tick(now: Millis): ServiceEffect[];
  receive(datagram: Uint8Array, from: Endpoint, now: Millis): ServiceEffect[];
  answered(id: number, answer: HttpAnswer | undefined, now: Millis): ServiceEffect[];
}

export type HttpAnswer = { readonly status: number; readonly body: string };

/** Asked for. RFC 6886 §3.3 and RFC 6887 §15 recommend two hours at most; a router that forgets us is noticed in one. */
export const LEASE_SECONDS = 7_200;
/** Whatever a router grants, within these it is renewed. */
const RENEW_MIN_MS: Millis = 30 * SECOND;
export const RENEW_MAX_MS: Millis = 60 * MINUTE;
/** RFC 6886 §3.1: from 250 ms, doubling. Nine tries would be 64 s; a router that is there answers at once. */
export const REQUEST_TRIES_MS: readonly Millis[] = [250, 500, 1_000, 2_000];
export const HTTP_TIMEOUT_MS: Millis = 3 * SECOND;

/** Half of what was granted (RFC 6886 §3.3). */
export const renewalOf = (lifetimeMs: Millis): Millis => Math.min(RENEW_MAX_MS, Math.max(RENEW_MIN_MS, lifetimeMs / 2));
