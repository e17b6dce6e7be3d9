import * as z from "zod";
import { API_PREFIX } from "../../wire/adminapi.js";
import { PROBLEM_TYPE } from "./problem.js";
import { type Route, route } from "./route.js";

/** The operations as an OpenAPI 3.1 document, whose schemas are those that the operations are held to. */

type Json = { readonly [name: string]: unknown };

const PROBLEM = {
  type: "object",
  description: "RFC 9457 problem details",
  required: ["type", "title", "status", "detail", "code"],
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    detail: { type: "string", description: "What failed, with which value, and what was expected" },
    code: { type: "string", description: "What programs compare" },
    advice: { type: "string", description: "The next command to type" },
  },
};

/** Adds the document itself to the operations it tells of. */
export function withOpenApi(routes: readonly Route[], version: string): Route[] {
  const all: Route[] = [
    ...routes,
    route({
      method: "GET",
      path: "/openapi.json",
      summary: "This document",
      scope: "status:read",
      answer: z.record(z.string(), z.unknown()),
      run: () => (document ??= openApi(all, version)),
    }),
  ];
  let document: Record<string, unknown> | undefined;
  return all;
}

export function openApi(routes: readonly Route[], version: string): Record<string, unknown> {
  const paths: Record<string, Record<string, Json>> = {};
  for (const one of routes) {
    const path = one.path.replaceAll(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [one.method.toLowerCase()]: operationOf(one) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "exitnode coordinator",
      version,
      description:
        "Administration of one network. Errors are application/problem+json with `code` and `advice`. " +
        "A POST, PUT, PATCH or DELETE with the header Idempotency-Key happens once, however often it is sent within a day.",
    },
    servers: [{ url: API_PREFIX }],
    security: [{ token: [] }],
    paths,
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Problem: PROBLEM },
      responses: {
        Problem: {
          description: "Why it was not done",
          content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
        },
      },
    },
  };
}

function operationOf({ method, path, summary, scope, replaces, query, body, answer }: Route): Json {
  const isWrite = method !== "GET";
  const names = [...path.matchAll(/:(\w+)/g)].map(([, name = ""]) => name);
  const parameters = [
    ...names.map((name) => ({ name, in: "path", required: true, schema: { type: "string", maxLength: 128 } })),
    ...(query === undefined ? [] : queryParameters(query)),
    ...(isWrite && scope !== "public" ? [IDEMPOTENCY_KEY] : []),
    ...(replaces ? [IF_MATCH] : []),
  ];
  const done =
    answer === undefined
      ? { "204": { description: "Done" } }
      : { "200": { description: "Done", content: { "application/json": { schema: schemaOf(answer) } } } };
  return {
    operationId: operationId(method, path),
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: schemaOf(body) } } } }),
    responses: {
      ...done,
      ...((method === "POST" || method === "PUT") && answer !== undefined
        ? { "201": { ...done["200"], description: "Made" } }
        : {}),
      ...(replaces ? { "412": { $ref: "#/components/responses/Problem" } } : {}),
      default: { $ref: "#/components/responses/Problem" },
    },
    // OpenAPI 3.1 §4.8.30.1: for other schemes than OAuth the list names roles.
    security: scope === "public" ? [] : [{ token: [scope] }],
  };
}

const IDEMPOTENCY_KEY = {
  name: "Idempotency-Key",
  in: "header",
  description: "Drawn anew for each request; 16 to 128 visible characters",
  schema: { type: "string", minLength: 16, maxLength: 128 },
};

const IF_MATCH = {
  name: "If-Match",
  in: "header",
  description: "The ETag of what this is to replace; 412 when it is another one by now",
  schema: { type: "string", pattern: '^(\\*|"[^"]*")$' },
};

function queryParameters(query: z.ZodType): Json[] {
  const { properties = {}, required = [] } = schemaOf(query) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: "query",
    required: required.includes(name),
    schema,
  }));
}

/** As it is on the wire, that is before anything is parsed: what a transformation makes of a text stays a text in JSON. */
function schemaOf(schema: z.ZodType): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: "input", unrepresentable: "any" });
  return rest;
}

/** "POST /devices/:id/revoke" is postDevicesByIdRevoke. */
function operationId(method: string, path: string): string {
  const words = path.split("/").flatMap((word) => (word.startsWith(":") ? ["by", word.slice(1)] : [word]));
  const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1);
  return (
    method.toLowerCase() +
    words
      .flatMap((word) => word.split(/[^A-Za-z0-9]+/))
      .map(capital)
      .join("")
  );
}
