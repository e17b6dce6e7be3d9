import { type Context, Hono } from "hono";
import * as z from "zod";
import { asFailure, Failure } from "../../kit/failure.js";
import { neighbourhood } from "../../kit/neighbourhood.js";
import type { Millis } from "../../kit/time.js";
import type { Log } from "../../sys/log.js";
import { parseWith } from "../../wire/schema.js";
import type { Actor } from "../actor.js";
import { Allowance } from "../allowance.js";
import { bodyText, jsonOf } from "../api/body.js";
import { problem, statusOf } from "../api/problem.js";
import { type Device, isMember, waitingOf } from "../device.js";
import type { Identity } from "../identity/identity.js";
import { INVITE_PATH } from "../identity/invites.js";
import { requireEnabled } from "../identity/people.js";
import type { Session } from "../identity/sessions.js";
import { CONFIRM_PATH } from "../identity/signins.js";
import type { User } from "../identity/user.js";
import { OIDC_RETURN_PATH } from "../identity/webaddress.js";
import { SCRIPT, STYLE } from "./assets.js";
import { codePage, confirmPage, devicesPage, donePage, failurePage, invitePage, signInPage } from "./pages.js";

export type SiteParts = {
  readonly identity: Identity;
  readonly devices: ReadonlyMap<string, Device>;
  readonly isOnline: (id: string) => boolean;
  /** Shuts a device out: its peers have been told when it is fulfilled. */
  readonly expel: (deviceId: string, by: Actor) => Promise<unknown>;
  readonly now: () => Millis;
  readonly wall: () => Millis;
  readonly log?: Log;
};

/** What one address may ask of the pages: a person clicks less. */
const PAGES_ALLOWED = { perSecond: 5, burst: 60 } as const;

/** Scripts and styles from here, forms to here, frames nowhere (OWASP Content Security Policy Cheat Sheet). */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "cross-origin-opener-policy": "same-origin",
  // Not "no-referrer": browsers then send `Origin: null` with our own forms (Fetch §3.2).
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

type Env = { Bindings: { readonly remote: string } };
type Call = Context<Env>;

const toBody = z.strictObject({ to: z.string().max(512).optional() });
const secretBody = z.strictObject({ secret: z.string().min(1).max(128) });
const enrolBody = secretBody.extend({ passkey: z.unknown() });
const JSON_PATHS = ["/sign-in/passkey", "/sign-in/passkey/options", INVITE_PATH, `${INVITE_PATH}/options`];

/** The pages for people: sign in, let a device in, see and shut out one's own. */
export function mountSite(parts: SiteParts): Hono<Env> {
  const { identity, wall, log } = parts;
  const { sessions, flows, passkeys, provider, people, invites, signIns, lockout } = identity;
  const app = new Hono<Env>();
  const allowance = new Allowance(PAGES_ALLOWED);
  const speaksJson = ({ req }: Call): boolean => req.method === "POST" && JSON_PATHS.includes(req.path);

  app.onError((error, context) => {
    const failure = asFailure(error);
    const status = statusOf(failure);
    if (failure.code === "sign-in-refused" || failure.code === "passkey-refused" || failure.code === "invite-unknown") {
      lockout.failed(context.env.remote, parts.now());
      log?.warn("sign-in refused", { reason: failure.message, remote: context.env.remote });
    }
    if (speaksJson(context)) return problem(context.req.path, failure, log);
    if (status === 500) log?.error("page failed", { path: context.req.path, reason: failure.message });
    const words = status === 500 ? "the coordinator failed; its log says why" : failure.message;
    return context.html(failurePage(words, status === 500 ? undefined : failure.advice), status as 500);
  });
  app.notFound((context) => context.html(failurePage("there is no such page", undefined), 404));
  app.use(async (context, next) => {
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) context.header(name, value);
    const { env, req } = context;
    if (!allowance.take(neighbourhood(env.remote), parts.now()))
      throw new Failure("too-many-requests", "too many requests came from this address", {
        advice: "wait some seconds",
      });
    if (req.method === "POST" && !sessions.isOwn(req.raw))
      throw new Failure("csrf-refused", "this request did not come from the coordinator's own page", {
        advice: "open the page by the coordinator's own address, and try again",
      });
    await next();
  });
  app.get("/web.css", (context) => context.body(STYLE, 200, { "content-type": "text/css; charset=utf-8" }));
  app.get("/web.js", (context) => context.body(SCRIPT, 200, { "content-type": "text/javascript; charset=utf-8" }));

  const requireUnlocked = ({ env }: Call): void => {
    if (lockout.isLocked(env.remote, parts.now()))
      throw new Failure("too-many-attempts", "too many sign-ins from this address have failed", {
        advice: "wait a minute",
      });
  };
  const enter = async ({ req, env }: Call, user: User): Promise<string> => {
    requireEnabled(user);
    lockout.succeeded(env.remote, parts.now());
    return sessions.begin(user, req.raw, env.remote);
  };
  /** With somebody signed in; otherwise they sign in first and come back. */
  const page = (path: string, show: (context: Call, session: Session) => Response | Promise<Response>): void => {
    app.get(path, async (context) => {
      const session = await sessions.of(context.req.raw);
      if (session !== undefined) return show(context, session);
      const { pathname, search } = new URL(context.req.url);
      return context.redirect(`/sign-in?to=${encodeURIComponent(pathname + search)}`, 302);
    });
  };
  /** A form of ours, sent by somebody signed in. */
  const form = (
    path: string,
    act: (context: Call, session: Session, fields: URLSearchParams) => Response | Promise<Response>,
  ): void => {
    app.post(path, async (context) => {
      const session = await sessions.of(context.req.raw);
      if (session === undefined) return context.redirect("/sign-in", 303);
      const fields = new URLSearchParams(await bodyText(context.req.raw));
      sessions.requireOwn(context.req.raw, session, fields.get("csrf"));
      return act(context, session, fields);
    });
  };
  const json = async <T>({ req }: Call, schema: z.ZodType<T>): Promise<T> =>
    parseWith(schema, jsonOf(await bodyText(req.raw), req.header("content-type") ?? null), "the request");

  app.get("/sign-in", (context) => {
    const ways = { passkeys: passkeys !== undefined, provider: provider?.name, to: ownPath(context.req.query("to")) };
    return context.html(signInPage(ways));
  });
  app.get("/sign-in/oidc", async (context) => {
    requireUnlocked(context);
    if (provider === undefined) return context.notFound();
    const { url, flow } = await provider.begin(ownPath(context.req.query("to")));
    context.header("set-cookie", flows.begin(flow));
    return context.redirect(url, 302);
  });
  app.get(OIDC_RETURN_PATH, async (context) => {
    requireUnlocked(context);
    const flow = flows.take(context.req.raw, "oidc");
    if (provider === undefined || flow === undefined) throw strayFlow();
    const vouched = await provider.finish(new URL(context.req.url).search, flow);
    const user = await people.vouched(vouched, context.env.remote);
    context.header("set-cookie", await enter(context, user));
    context.header("set-cookie", flows.end(), { append: true });
    return context.redirect(flow.to, 303);
  });
  app.post("/sign-in/passkey/options", async (context) => {
    requireUnlocked(context);
    const { to } = await json(context, toBody);
    if (passkeys === undefined) return context.notFound();
    const options = await passkeys.signInOptions();
    context.header("set-cookie", flows.begin({ kind: "passkey", challenge: options.challenge, to: ownPath(to) }));
    return context.json(options);
  });
  app.post("/sign-in/passkey", async (context) => {
    requireUnlocked(context);
    const answer = await json(context, z.unknown());
    const flow = flows.take(context.req.raw, "passkey");
    if (passkeys === undefined || flow === undefined) throw strayFlow();
    context.header("set-cookie", await enter(context, await passkeys.signIn(answer, flow.challenge)));
    return context.json({ to: flow.to });
  });
  app.get(INVITE_PATH, (context) => context.html(invitePage()));
  app.post(`${INVITE_PATH}/options`, async (context) => {
    requireUnlocked(context);
    const { secret } = await json(context, secretBody);
    if (passkeys === undefined) return context.notFound();
    const options = await passkeys.enrolOptions(await invites.guest(secret));
    context.header("set-cookie", flows.begin({ kind: "enrol", challenge: options.challenge }));
    return context.json(options);
  });
  app.post(INVITE_PATH, async (context) => {
    requireUnlocked(context);
    const { secret, passkey } = await json(context, enrolBody);
    const flow = flows.take(context.req.raw, "enrol");
    if (passkeys === undefined || flow === undefined) throw strayFlow();
    const user = await invites.guest(secret);
    await passkeys.enrol(passkey, flow.challenge, user, secret, context.env.remote);
    context.header("set-cookie", await enter(context, user));
    return context.json({ to: "/" });
  });
  form("/sign-out", async (context, session) => {
    context.header("set-cookie", await sessions.end(session));
    return context.redirect("/sign-in", 303);
  });

  page(CONFIRM_PATH, async (context, { user, csrf }) => {
    const code = context.req.query("code");
    if (code === undefined) return context.html(codePage(user));
    requireUnlocked(context);
    return context.html(confirmPage(await guessing(context, signIns.waiting(code)), user, csrf, wall()));
  });
  form(CONFIRM_PATH, async (context, { user }, fields) => {
    requireUnlocked(context);
    const [code, isConfirmed] = [fields.get("code") ?? "", fields.get("do") === "confirm"];
    const settle = isConfirmed
      ? signIns.confirm(code, user, context.env.remote)
      : signIns.refuse(code, user, context.env.remote);
    const { name } = await guessing(context, settle);
    return context.html(
      isConfirmed
        ? donePage(`${name} is in`, "It goes on by itself; you can close this page.")
        : donePage(`${name} was refused`, "If you did not start it, somebody tried to use your name."),
    );
  });
  page("/", (context, { user, csrf }) => {
    const shown = [...parts.devices.values()]
      .filter((device) => device.userId === user.id && isMember(device))
      .map((device) => ({ device, online: parts.isOnline(device.id), waiting: waitingOf(device, wall()) }));
    return context.html(devicesPage(user, shown, csrf, wall()));
  });
  form("/devices/:id/revoke", async (context, { user }) => {
    const device = parts.devices.get(context.req.param("id") ?? "");
    // Somebody else's device is as unknown as none.
    if (device === undefined || device.userId !== user.id)
      throw new Failure("device-unknown", "none of your devices is that one");
    await parts.expel(device.id, { name: `user:${user.id}`, remote: context.env.remote });
    return context.redirect("/", 303);
  });

  /** A wrong code counts as a failed sign-in: 34 bits are enough against twenty tries a minute. */
  async function guessing<T>({ env }: Call, found: Promise<T>): Promise<T> {
    return found.catch((error: unknown) => {
      if (asFailure(error).code === "sign-in-unknown") lockout.failed(env.remote, parts.now());
      throw error;
    });
  }
  return app;
}

/** A path of this site, whatever was asked for: never another host's. */
export function ownPath(wanted: string | undefined): string {
  return wanted !== undefined && /^\/(?:[A-Za-z0-9_-][A-Za-z0-9_/?=&%.-]{0,255})?$/.test(wanted) ? wanted : "/";
}

/** Not counted as a failed sign-in: any page of somebody else's could lock a person's address out by links to ours. */
const strayFlow = (): Failure =>
  new Failure("sign-in-stray", "this sign-in was not begun in this browser, is over, or took too long", {
    advice: "begin it again",
  });

const PAGES = /^\/(?:$|web\.(?:css|js)$|sign-(?:in|out)(?:\/|$)|invite(?:\/|$)|device$|devices\/)/;

/** What is no page is the API's, which says so when it is nothing. */
export const isPage = (path: string): boolean => PAGES.test(path);
