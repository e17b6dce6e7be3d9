import { equalSecrets, toBase64Url, toHex, utf8 } from "../../kit/bytes.js";
import { hash, hmac } from "../../kit/crypto.js";
import { Failure } from "../../kit/failure.js";
import { HOUR, MINUTE, type Millis } from "../../kit/time.js";
import type { Random } from "../../sys/random.js";
import type { Caller } from "../api/caller.js";
import type { Store } from "../store/store.js";
import type { People } from "./people.js";
import { scopesOf } from "./roles.js";
import { isEnabled, type User } from "./user.js";

/** A session nobody uses ends after this; a used one after SESSION_ABSOLUTE_MS (OWASP Session Management Cheat Sheet). */
const SESSION_IDLE_MS: Millis = 12 * HOUR;
const SESSION_ABSOLUTE_MS: Millis = 7 * 24 * HOUR;
/** Of one person; the oldest ends. */
const SESSIONS_MAX = 16;
/** `__Host-`: set by this very host over TLS, for all of its paths, and by no other host of its domain. */
const SESSION_COOKIE = "__Host-exitnode";
const CSRF_HEADER = "x-exitnode-csrf";
const COOKIE_BYTES = 32;
/** How exactly the idle end is known: a write less for every request. */
const EXTEND_STEP_MS: Millis = MINUTE;

export type Session = { readonly id: string; readonly user: User; readonly csrf: string };

export type SessionsParts = {
  readonly store: Store;
  readonly people: People;
  readonly random: Random;
  readonly wall: () => Millis;
  /** Where our pages are: requests that change something come from there. */
  readonly origins: readonly string[];
};

/** People's sessions in browsers. The cookie is 256 random bits, of which the store has the hash. */
export class Sessions {
  readonly #parts: SessionsParts;

  constructor(parts: SessionsParts) {
    this.#parts = parts;
  }

  /** A new one, never an old one that somebody may have planted; the Set-Cookie header. */
  async begin(user: User, request: Request, remote: string): Promise<string> {
    const { store, random, wall, people } = this.#parts;
    const cookie = toBase64Url(random(COOKIE_BYTES));
    const now = wall();
    const old = cookieOf(request, SESSION_COOKIE);
    await store.change(async ({ sessions, audit }) => {
      if (old !== undefined) await sessions.remove(idOf(old));
      await sessions.add({
        id: idOf(cookie),
        user_id: user.id,
        created_at_ms: now,
        expires_at_ms: now + SESSION_IDLE_MS,
        remote,
      });
      await sessions.prune(now, user.id, SESSIONS_MAX);
      await audit.append({
        at: now,
        by: { name: `user:${user.id}`, remote },
        action: "session.begin",
        target: user.id,
      });
    });
    await people.seen(user);
    return setCookie(SESSION_COOKIE, cookie, SESSION_ABSOLUTE_MS);
  }

  /** Undefined: nobody is signed in there. */
  async of(request: Request): Promise<Session | undefined> {
    const { store, people, wall } = this.#parts;
    const cookie = cookieOf(request, SESSION_COOKIE);
    if (cookie === undefined) return undefined;
    const id = idOf(cookie);
    const row = await store.view.sessions.find(id);
    const now = wall();
    if (row === undefined || now >= row.expires_at_ms) return undefined;
    const user = people.users.get(row.user_id);
    if (user === undefined || !isEnabled(user)) return undefined;
    const end = Math.min(now + SESSION_IDLE_MS, row.created_at_ms + SESSION_ABSOLUTE_MS);
    if (end - row.expires_at_ms >= EXTEND_STEP_MS) await store.change(({ sessions }) => sessions.extend(id, end));
    return { id, user, csrf: csrfOf(cookie) };
  }

  /** The Set-Cookie header that takes the cookie back. */
  async end(session: Session): Promise<string> {
    await this.#parts.store.change(({ sessions }) => sessions.remove(session.id));
    return setCookie(SESSION_COOKIE, "", 0);
  }

  /** The person behind a request to the API, from our own pages; undefined: no session came with it. */
  async callerOf(request: Request, remote: string): Promise<Caller | undefined> {
    const session = await this.of(request);
    if (session === undefined) return undefined;
    if (request.method !== "GET" && request.method !== "HEAD")
      this.requireOwn(request, session, request.headers.get(CSRF_HEADER));
    const { user } = session;
    const scopes = new Set<string>(scopesOf(user.role));
    return { name: `user:${user.id}`, remote, userId: user.id, may: (scope) => scopes.has(scope) };
  }

  /** A page of somebody else's can make a browser send our cookie, but neither our Origin nor this token. */
  requireOwn(request: Request, session: Session, token: string | null): void {
    if (this.isOwn(request) && token !== null && equalSecrets(utf8(token), utf8(session.csrf))) return;
    throw new Failure("csrf-refused", "this request did not come from the coordinator's own page", {
      advice: "open the page anew, and try again",
    });
  }

  /** Whether one of our own pages sent it. Browsers send Origin with every POST. */
  isOwn({ headers }: Request): boolean {
    const origin = headers.get("origin");
    const site = headers.get("sec-fetch-site");
    return origin !== null && this.#parts.origins.includes(origin) && (site === null || site === "same-origin");
  }
}

/** RFC 6265 §4.2: name=value pairs, of which the first of a name counts. */
export function cookieOf({ headers }: Request, name: string): string | undefined {
  for (const pair of (headers.get("cookie") ?? "").split(";")) {
    const [found = "", value = ""] = pair.trim().split("=", 2);
    if (found === name && /^[A-Za-z0-9_-]{1,4000}$/.test(value)) return value;
  }
  return undefined;
}

/** Lax: a link to our page, or the way back from the identity provider, finds the person signed in; a foreign form does not. */
export const setCookie = (name: string, value: string, lifetimeMs: Millis): string =>
  `${name}=${value}; Path=/; Max-Age=${Math.round(lifetimeMs / 1_000)}; Secure; HttpOnly; SameSite=Lax`;

const idOf = (cookie: string): string => toHex(hash(utf8(`exitnode web session ${cookie}`)));
const csrfOf = (cookie: string): string => toBase64Url(hmac(utf8(cookie), utf8("exitnode csrf")));
