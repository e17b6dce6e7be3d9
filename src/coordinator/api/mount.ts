import { type Context, Hono } from "hono";
import { asFailure, Failure } from "../../kit/failure.js";
import { neighbourhood } from "../../kit/neighbourhood.js";
import type { Millis } from "../../kit/time.js";
import type { Log } from "../../sys/log.js";
import { API_PREFIX, type Scope } from "../../wire/adminapi.js";
import { Allowance } from "../allowance.js";
import { METRICS_TYPE, type Metrics } from "../metrics.js";
import { bodyText, jsonOf, paramOf, queryOf } from "./body.js";
import { type Caller, callerOf, type Gate } from "./caller.js";
import { problem } from "./problem.js";
import type { Replays, Reply } from "./replays.js";
import type { Route } from "./route.js";

export type MountParts = {
  readonly routes: readonly Route[];
  readonly now: () => Millis;
  readonly replays: Replays;
  readonly metrics: Metrics;
  /** Throws when the store does not answer. */
  readonly ready: () => Promise<void>;
  /** Whoever reaches the port may read /metrics. */
  readonly openMetrics?: boolean;
  readonly log?: Log;
};

/** What one caller may ask over the network: beyond any person and most programs, below what would slow devices. */
export const CALLS_ALLOWED = { perSecond: 300, burst: 2_000 } as const;
/** The same for an address that has not said who it is, and for all of those together. */
export const STRANGERS_ALLOWED = { perSecond: 10, burst: 60 } as const;
export const ALL_STRANGERS_ALLOWED = { perSecond: 200, burst: 1_000 } as const;

/**
 * On every answer (OWASP REST Security Cheat Sheet). No Strict-Transport-Security: it holds for all ports of a name,
 * and would cut a home off its other, plain services there.
 */
export const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

type Env = { Bindings: { readonly remote: string }; Variables: { route: string; caller: string } };
type Call = Context<Env>;

/** The administration API of wire/adminapi.ts as a function from request to response. */
export function mountApi(parts: MountParts, gate: Gate): Hono<Env> {
  const { routes, now, metrics, log } = parts;
  const app = new Hono<Env>();
  const turnstile = new Turnstile(gate, now);
  app.onError((error, { req }) => problem(req.path, asFailure(error), log));
  app.notFound(({ req }) => problem(req.path, new Failure("not-found", `nothing is at ${req.path}`), log));
  app.use(async (context, next) => {
    const startedAt = now();
    await next();
    const { res, req } = context;
    for (const [name, value] of Object.entries(SECURITY_HEADERS))
      if (!res.headers.has(name)) res.headers.set(name, value);
    // Neither another method nor another path than ours may make a line of its own.
    const [route, caller] = [context.get("route"), context.get("caller")];
    if (route !== undefined) metrics.asked(req.method, route, res.status, now() - startedAt);
    // Of strangers it says nothing: they could fill the disk.
    if (caller !== undefined && req.method !== "GET" && req.method !== "HEAD")
      log?.info("api", { method: req.method, route, status: res.status, caller, remote: context.env.remote });
  });
  app.get("/healthz", (context) => context.text("ok\n"));
  app.get("/readyz", async (context) => {
    await parts.ready().catch((cause: unknown) => {
      throw new Failure("store-unavailable", "the store does not answer", { cause });
    });
    return context.text("ok\n");
  });
  app.get("/metrics", async (context) => {
    if (parts.openMetrics !== true) await turnstile.admit(context, "status:read");
    return context.body(metrics.render(), 200, { "content-type": METRICS_TYPE });
  });
  for (const one of routes)
    app.on(one.method, `${API_PREFIX}${one.path}`, async (context) => {
      context.set("route", one.path);
      const caller = await turnstile.admit(context, one.scope);
      context.set("caller", caller.name);
      return answer(one, context, caller, parts.replays);
    });
  // Strangers are not told which paths there are.
  app.all(`${API_PREFIX}/*`, async (context) => {
    await turnstile.admit(context, undefined);
    return refuseMethod(context, routes);
  });
  for (const path of ["/healthz", "/readyz", "/metrics"]) app.all(path, (context) => methodUnknown(context, ["GET"]));
  return app;
}

/** Who comes in, how often, and for what. */
class Turnstile {
  readonly #gate: Gate;
  readonly #now: () => Millis;
  readonly #callers = new Allowance(CALLS_ALLOWED);
  readonly #strangers = new Allowance(STRANGERS_ALLOWED);
  readonly #allStrangers = new Allowance(ALL_STRANGERS_ALLOWED);

  constructor(gate: Gate, now: () => Millis) {
    this.#gate = gate;
    this.#now = now;
  }

  /** `scope` undefined: it is enough to be somebody. */
  async admit({ req, env }: Call, scope: Scope | "public" | undefined): Promise<Caller> {
    const now = this.#now();
    const { remote } = env;
    if (scope === "public") {
      this.#pass(this.#strangers.take(neighbourhood(remote), now) && this.#allStrangers.take("", now));
      return { name: "public", remote, may: () => false };
    }
    const caller = await callerOf(this.#gate, req.raw, remote, now);
    // Whoever has the socket has the machine.
    if (this.#gate.kind !== "socket") this.#pass(this.#callers.take(caller.name, now));
    if (scope !== undefined && !caller.may(scope))
      throw new Failure("scope-missing", `this needs the scope ${scope}, which ${caller.name} does not have`, {
        advice: `exitnode token create --scope ${scope}`,
      });
    return caller;
  }

  #pass(isAllowed: boolean): void {
    if (!isAllowed)
      throw new Failure("too-many-requests", "too many requests came from this caller", {
        advice: "wait some seconds, then ask less often",
      });
  }
}

async function answer(one: Route, context: Call, caller: Caller, replays: Replays): Promise<Response> {
  const { req } = context;
  const names = [...one.path.matchAll(/:(\w+)/g)].map(([, name = ""]) => name);
  const params = new Map(names.map((name) => [name, paramOf(req.param(name), name)]));
  const query = queryOf(req.queries());
  const [stray] = one.query === undefined ? Object.keys(query) : [];
  if (stray !== undefined) throw new Failure("message-invalid", "this takes no query");
  const text = await bodyText(req.raw);
  if (one.body === undefined && text !== "") throw new Failure("message-invalid", "this takes no body");
  const body = one.body === undefined ? undefined : jsonOf(text, req.header("content-type") ?? null);
  const carryOut = async (): Promise<Reply> => {
    let status = one.answer === undefined ? 204 : 200;
    const value = await one.handle({
      caller,
      param: (name) => params.get(name) ?? "",
      query,
      body,
      ifMatch: versionOf(one, req.header("if-match")),
      created: () => {
        status = 201;
      },
      version: (tag) => context.header("etag", `"${tag}"`),
    });
    return { status, body: one.answer === undefined ? "" : JSON.stringify(value) };
  };
  const key = req.header("idempotency-key");
  // PUT and DELETE may be repeated as they are (RFC 9110 §9.2.2), but a key tells the first answer to both.
  const reply =
    key === undefined || one.method === "GET" || one.scope === "public"
      ? await carryOut()
      : await replays.once({ caller: caller.name, key, request: `${one.method} ${req.url} ${text}` }, carryOut);
  if (reply.body === "") return context.body(null, 204);
  return context.body(reply.body, reply.status === 201 ? 201 : 200, { "content-type": "application/json" });
}

/**
 * RFC 9110 §13.1.1. Something else than one version or * must not be taken for "whichever there is", nor a version that
 * is not looked at for one that fits.
 */
function versionOf({ replaces, path }: Route, ifMatch: string | undefined): string | undefined {
  if (ifMatch !== undefined && !replaces)
    throw new Failure("message-invalid", `${path} has no versions: it takes no If-Match`);
  if (ifMatch === undefined || ifMatch === "*") return undefined;
  const version = /^"([^"]*)"$/.exec(ifMatch)?.[1];
  if (version === undefined)
    throw new Failure("message-invalid", 'If-Match must be one ETag in quotes, such as "7", or *');
  return version;
}

function refuseMethod(context: Call, routes: readonly Route[]): Response {
  const { path } = context.req;
  const methods = routes.filter((one) => patternOf(one.path).test(path)).map(({ method }) => method);
  if (methods.length === 0) throw new Failure("not-found", `nothing is at ${path}`);
  return methodUnknown(context, methods);
}

/** RFC 9110 §15.5.6: a 405 names what there is. */
function methodUnknown(context: Call, methods: readonly string[]): Response {
  const { method, path } = context.req;
  const response = problem(path, new Failure("method-unknown", `${path} takes no ${method}`), undefined);
  response.headers.set("allow", methods.join(", "));
  return response;
}

const patternOf = (path: string): RegExp => new RegExp(`^${API_PREFIX}${path.replaceAll(/:\w+/g, "[^/]+")}$`);
