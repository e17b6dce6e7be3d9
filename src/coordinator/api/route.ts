import type * as z from "zod";
import type { Scope } from "../../wire/adminapi.js";
import { parseWith } from "../../wire/schema.js";
import type { Caller } from "./caller.js";

/**
 * One operation of the administration API, as data: from it come the handler (mount.ts), its place in the OpenAPI
 * document, and the tests that send it nonsense.
 */
export type Route = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below API_PREFIX; `:name` is a parameter. */
  readonly path: `/${string}`;
  readonly summary: string;
  /** What the caller must be allowed; "public": nobody is asked. */
  readonly scope: Scope | "public";
  /** Takes If-Match: what it replaces has versions. */
  readonly replaces: boolean;
  readonly query: z.ZodType | undefined;
  readonly body: z.ZodType | undefined;
  /** Undefined: nothing but 204. */
  readonly answer: z.ZodType | undefined;
  /** The value for the answer; unparsed query and body come in. */
  handle(raw: RawCall): Promise<unknown>;
};

export type RawCall = {
  readonly caller: Caller;
  param(name: string): string;
  readonly query: unknown;
  readonly body: unknown;
  /** The version that the caller means to replace (If-Match); undefined: whichever there is. */
  readonly ifMatch: string | undefined;
  /** 201 instead of 200. */
  created(): void;
  /** The version of what is answered, for a later `ifMatch`: sent as ETag. */
  version(tag: string | number): void;
};

export type ApiCall<Query, Body> = Omit<RawCall, "query" | "body"> & { readonly query: Query; readonly body: Body };

export type RouteWant<Query, Body, Value> = Pick<Route, "method" | "path" | "summary" | "scope"> & {
  readonly replaces?: boolean;
  readonly query?: z.ZodType<Query>;
  readonly body?: z.ZodType<Body>;
  readonly answer?: z.ZodType<Value>;
  run(call: ApiCall<Query, Body>): Value | Promise<Value>;
};

/** A route whose `run` sees only what its schemas let through. */
export function route<Value = undefined, Query = undefined, Body = undefined>(
  want: RouteWant<Query, Body, Value>,
): Route {
  const { method, path, summary, scope, replaces = false, query, body, answer } = want;
  const at = `${method} ${path}`;
  return {
    method,
    path,
    summary,
    scope,
    replaces,
    query,
    body,
    answer,
    async handle(raw) {
      return want.run({
        ...raw,
        query: query === undefined ? (undefined as Query) : parseWith(query, raw.query, `the query of ${at}`),
        body: body === undefined ? (undefined as Body) : parseWith(body, raw.body, `the body of ${at}`),
      });
    },
  };
}
