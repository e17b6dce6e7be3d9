import { Hono } from "hono";
import { concat, fromUtf8 } from "../../kit/bytes.js";
import { asFailure, Failure } from "../../kit/failure.js";
import { tryJson } from "../../kit/json.js";
import type { Millis } from "../../kit/time.js";
import type { Log } from "../../sys/log.js";
import { API_PREFIX } from "../../wire/adminapi.js";
import { type Caller, callerOf, type Gate } from "./caller.js";
import { problem } from "./problem.js";
import type { Route } from "./route.js";

export const BODY_BYTES_MAX = 64 * 1024;
/** Longest value of a parameter in a path: ids and names are shorter. */
const PARAM_CHARACTERS_MAX = 128;

export type MountParts = { readonly routes: readonly Route[]; readonly now: () => Millis; readonly log?: Log };

type Env = { Bindings: { readonly remote: string }; Variables: { caller: Caller } };

/** The administration API of wire/adminapi.ts as a function from request to response. */
export function mountApi({ routes, now, log }: MountParts, gate: Gate): Hono<Env> {
  const app = new Hono<Env>();
  app.onError((error, context) => problem(context.req.path, asFailure(error), log));
  app.notFound((context) =>
    problem(context.req.path, new Failure("not-found", `nothing is at ${context.req.path}`), log),
  );
  app.get("/healthz", (context) => context.text("ok\n"));
  const api = app.basePath(API_PREFIX);
  // Strangers are not told which paths there are.
  const open = new Set(routes.filter(({ scope }) => scope === "public").map(({ path }) => `${API_PREFIX}${path}`));
  api.use(async (context, next) => {
    const { path, raw } = context.req;
    const { remote } = context.env;
    context.set("caller", open.has(path) ? stranger(remote) : await callerOf(gate, raw, remote, now()));
    await next();
  });
  for (const one of routes)
    api.on(one.method, one.path, async (context) => {
      const { scope } = one;
      const caller = context.get("caller");
      if (scope !== "public" && !caller.may(scope))
        throw new Failure("scope-missing", `this needs the scope ${scope}, which ${caller.name} does not have`, {
          advice: `exitnode token create --scope ${scope}`,
        });
      let status: 200 | 201 = 200;
      const value = await one.handle({
        caller,
        param: (name) => paramOf(context.req.param(name), name),
        query: context.req.query(),
        body: one.body === undefined ? undefined : tryJson(await bodyText(context.req.raw)),
        created: () => {
          status = 201;
        },
      });
      return one.answer === undefined ? context.body(null, 204) : context.json(value as object, status);
    });
  return app;
}

const stranger = (remote: string): Caller => ({ name: "public", remote, may: () => false });

function paramOf(value: string | undefined, name: string): string {
  if (value !== undefined && value !== "" && value.length <= PARAM_CHARACTERS_MAX) return value;
  throw new Failure("message-invalid", `the ${name} in the path must have 1 to ${PARAM_CHARACTERS_MAX} characters`);
}

/** The body, read no further than BODY_BYTES_MAX. */
async function bodyText(request: Request): Promise<string> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request.body ?? []) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw new Failure("message-too-long", `a request has at most ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return fromUtf8(concat(...chunks)) ?? "";
}
