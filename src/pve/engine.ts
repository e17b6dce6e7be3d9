import type { ApiRequestable } from "proxmox-api";
import { Failure } from "../kit/failure.js";
import { HOUR, MINUTE, type Millis } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { BodyPart, Https, HttpsReply } from "../sys/https.js";
import { namingHost, replyFailure, unreachableHost } from "./errors.js";
import type { PveParams } from "./guests.js";
import { ticketReply } from "./replies.js";

/**
 * The requests under proxmox-api's typed tree: urlencoded bodies for POST and PUT, the query for GET and DELETE (a
 * body on those is refused), a Content-Length always (chunks are refused).
 *
 * A write is sent exactly once. When its answer gets lost nobody knows whether the host acted, and repeating a
 * create makes a second container: the Failure `outcome-unknown` says so, and the caller looks before it acts.
 */
export interface Engine extends ApiRequestable {
  /** `path` below /api2/json, one segment each: they are escaped here. */
  call(method: Method, path: readonly (string | number)[], params?: PveParams): Promise<unknown>;
  /** A POST with a body of its own. */
  send(path: readonly string[], contentType: string, body: readonly BodyPart[], options: SendOptions): Promise<unknown>;
  /** How far the host's clock was ahead of ours at its last answer; undefined before the first. */
  skewMs(): Millis | undefined;
  close(): void;
}

export type Method = "GET" | "POST" | "PUT" | "DELETE";
export type SendOptions = {
  readonly deadlineMs: Millis;
  readonly signal?: AbortSignal | undefined;
  readonly onSent?: ((bytes: number) => void) | undefined;
};

export type EngineParts = { readonly https: Https; readonly clock: Clock };
export type Login = {
  /** What the host is called in the config, where it is there. */
  readonly name?: string | undefined;
  /** https://host:8006 */
  readonly url: string;
  readonly fingerprint: string;
  /** `user@realm` with a password, or `user@realm!token` with the token's secret. */
  readonly login: string;
  readonly secret: string;
  /** Asked for the code of the moment when a user logs in with a second factor (TOTP). */
  readonly secondFactor?: (() => Promise<string>) | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** A read is tried this often when the connection breaks or a proxy in between fails (595 to 599). */
export const READ_TRIES_MAX = 3;
const READ_PAUSE_MS: Millis = 300;
/** A ticket lives two hours; half an hour is kept for a task that outlasts the renewal. */
const TICKET_RENEW_AFTER_MS: Millis = 2 * HOUR - 30 * MINUTE;
const ROOT = "/api2/json";

type Ticket = { readonly ticket: string; readonly csrf: string; readonly at: Millis };

export function openEngine(parts: EngineParts, login: Login): Engine {
  const { https, clock } = parts;
  const byToken = login.login.includes("!");
  let ticket: Ticket | undefined;
  let entering: Promise<Ticket> | undefined;
  let skewMs: Millis | undefined;

  async function askTicket(params: PveParams): Promise<TicketReply> {
    const path = `${ROOT}/access/ticket`;
    return ticketReply(judge("POST", path, {}, await once("POST", path, form(params), {}))).data;
  }

  async function logIn(password: string): Promise<Ticket> {
    const username = login.login;
    let data = await askTicket({ username, password });
    if (data.needsSecondFactor) {
      if (login.secondFactor === undefined) throw namingHost(secondFactorRequired(username), login.name);
      // The half ticket stands for the password that was right; the code takes the password's place.
      const code = `totp:${await login.secondFactor()}`;
      data = await askTicket({ username, password: code, "tfa-challenge": data.ticket });
    }
    return { ticket: data.ticket, csrf: data.csrf, at: clock.now() };
  }

  /** Calls that begin together share one login: the host hashes the password for each. */
  async function validTicket(): Promise<Ticket> {
    if (ticket !== undefined && clock.now() - ticket.at <= TICKET_RENEW_AFTER_MS) return ticket;
    const old = ticket?.ticket;
    entering ??= (old === undefined ? logIn(login.secret) : logIn(old).catch(() => logIn(login.secret))).finally(() => {
      entering = undefined;
    });
    ticket = await entering;
    return ticket;
  }

  async function authorization(method: Method): Promise<Record<string, string>> {
    if (byToken) return { authorization: `PVEAPIToken=${login.login}=${login.secret}` };
    const { ticket: secret, csrf } = await validTicket();
    const cookie = { cookie: `PVEAuthCookie=${encodeURIComponent(secret)}` };
    return method === "GET" ? cookie : { ...cookie, csrfpreventiontoken: csrf };
  }

  async function once(
    method: Method,
    path: string,
    body: readonly BodyPart[] | undefined,
    headers: Record<string, string>,
    options: Partial<SendOptions> = {},
  ): Promise<HttpsReply> {
    const signal = options.signal ?? login.signal;
    const request = https.request({
      method,
      url: new URL(path, login.url).href,
      fingerprint: login.fingerprint,
      headers: {
        accept: "application/json",
        ...(body === undefined ? {} : { "content-type": "application/x-www-form-urlencoded" }),
        ...headers,
      },
      pooled: method === "GET",
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
      ...(options.deadlineMs === undefined ? {} : { deadlineMs: options.deadlineMs }),
      ...(options.onSent === undefined ? {} : { onSent: options.onSent }),
    });
    const reply = await request.catch((error: unknown) => unreachableHost(error, login.url));
    const host = Date.parse(reply.date ?? "");
    if (!Number.isNaN(host)) skewMs = host - clock.wall();
    return reply;
  }

  /** The `data` of a good answer; a Failure of errors.ts for any other. */
  function judge(method: Method, path: string, params: PveParams, reply: HttpsReply): unknown {
    if (reply.status >= 200 && reply.status < 300) return parseBody(method, path, reply.body);
    const asked = { method, path: path.slice(ROOT.length), params, login: login.login, url: login.url };
    throw namingHost(replyFailure(asked, reply), login.name);
  }

  async function read(path: string, params: PveParams): Promise<unknown> {
    const query = encode(params);
    let mayLogInAgain = !byToken;
    for (let tries = 1; ; tries++) {
      try {
        const reply = await once(
          "GET",
          query === "" ? path : `${path}?${query}`,
          undefined,
          await authorization("GET"),
        );
        if (reply.status === 401 && mayLogInAgain) {
          mayLogInAgain = false;
          ticket = undefined;
          continue;
        }
        return judge("GET", path, params, reply);
      } catch (error) {
        if (tries >= READ_TRIES_MAX || !(error instanceof Failure) || !PASSING.has(error.code)) throw error;
        await clock.sleep(READ_PAUSE_MS * tries, login.signal);
      }
    }
  }

  async function write(method: Method, path: string, params: PveParams): Promise<unknown> {
    const headers = await authorization(method);
    const query = method === "DELETE" ? encode(params) : "";
    const target = query === "" ? path : `${path}?${query}`;
    const reply = await settled(
      method,
      path,
      once(method, target, method === "DELETE" ? undefined : form(params), headers),
    );
    return judge(method, path, params, reply);
  }

  const request = async (method: string, path: string, params: PveParams): Promise<unknown> => {
    const verb = METHODS.get(method.toUpperCase());
    if (verb === undefined) throw new Failure("call-unknown", `expected GET, POST, PUT or DELETE, got ${method}`);
    return dataOf(await (verb === "GET" ? read(path, params) : write(verb, path, params)));
  };

  return {
    // The tree escapes only "/" in what it puts into a path; the rest is escaped here.
    doRequest: async (method, path, _template, params) =>
      request(method, path.split("/").map(escapeRest).join("/"), params ?? {}),
    call: async (method, path, params) =>
      request(method, `${ROOT}${path.map((part) => `/${escaped(part)}`).join("")}`, params ?? {}),
    async send(segments, contentType, body, options) {
      const path = `${ROOT}${segments.map((part) => `/${escaped(part)}`).join("")}`;
      const headers = { ...(await authorization("POST")), "content-type": contentType };
      return dataOf(judge("POST", path, {}, await settled("POST", path, once("POST", path, body, headers, options))));
    },
    skewMs: () => skewMs,
    close: () => https.close(),
  };
}

type TicketReply = ReturnType<typeof ticketReply>["data"];

function secondFactorRequired(login: string): Failure {
  return new Failure("second-factor-required", `${login} logs in with a second factor, which is asked for once only`, {
    advice:
      "let it make a token once, on a terminal or with the code in EXITNODE_TOTP: exitnode host add <name> --bootstrap",
  });
}

const METHODS: ReadonlyMap<string, Method> = new Map([
  ["GET", "GET"],
  ["POST", "POST"],
  ["PUT", "PUT"],
  ["DELETE", "DELETE"],
]);

/** Failures of a read that the next try may not meet. */
const PASSING = new Set(["connection-lost", "pve-node-unreachable"]);
/** Failures after which a write may have happened. */
const UNSETTLED = new Set(["connection-lost", "deadline-exceeded", "cancelled-midway", "response-too-large"]);

async function settled(method: Method, path: string, reply: Promise<HttpsReply>): Promise<HttpsReply> {
  const outcome = await reply.catch((error: unknown) => {
    if (!(error instanceof Failure) || !UNSETTLED.has(error.code)) throw error;
    throw unknownOutcome(method, path, error.message, error);
  });
  // 595 to 599: the proxy lost the daemon or the other node after it had passed the request on.
  if (outcome.status >= 595 && outcome.status <= 599)
    throw unknownOutcome(method, path, `${outcome.status} ${outcome.reason}`, undefined);
  return outcome;
}

function unknownOutcome(method: Method, path: string, reason: string, cause: unknown): Failure {
  const call = `${method} ${path.slice(ROOT.length)}`;
  return new Failure("outcome-unknown", `${call} was sent, but its answer got lost: ${reason}`, {
    advice: "run the command again: it looks at the host first and goes on from what it finds",
    cause,
  });
}

function parseBody(method: Method, path: string, body: string): unknown {
  try {
    return JSON.parse(body);
  } catch (cause) {
    const call = `${method} ${path.slice(ROOT.length)}`;
    throw new Failure("pve-reply-unexpected", `${call} was answered with something that is not JSON`, {
      advice: "check that the URL is the host's own, such as https://192.168.1.10:8006, and not a proxy's login page",
      cause,
    });
  }
}

function dataOf(reply: unknown): unknown {
  return typeof reply === "object" && reply !== null && "data" in reply ? reply.data : undefined;
}

export function encode(params: PveParams): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value])
      query.append(name, typeof one === "boolean" ? (one ? "1" : "0") : String(one));
  }
  return query.toString();
}

const form = (params: PveParams): readonly BodyPart[] => [new TextEncoder().encode(encode(params))];

function escaped(segment: string | number): string {
  const text = String(segment);
  if (text === "" || text === "." || text === "..")
    throw new Failure("call-unknown", `expected the name of something, got "${text}"`);
  return encodeURIComponent(text);
}

const escapeRest = (segment: string): string => (segment === "" ? "" : escaped(segment.replaceAll("%2F", "/")));
