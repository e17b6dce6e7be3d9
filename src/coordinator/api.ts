import { type Context, Hono } from "hono";
import { concat, equalSecrets, fromHex, fromUtf8, utf8 } from "../kit/bytes.js";
import { asFailure, Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { parseKey } from "../kit/key.js";
import { sha256 } from "../kit/sha256.js";
import type { Millis } from "../kit/time.js";
import type { Log } from "../sys/log.js";
import { API_PREFIX, type CoordinatorStatus, type DeviceInfo, keyRequest } from "../wire/adminapi.js";
import { remoteRelay } from "../wire/coordinatorconfig.js";
import { encodeJoinKey } from "../wire/joinkey.js";
import { parseWith } from "../wire/schema.js";
import type { Device } from "./device.js";
import type { Lockout } from "./lockout.js";
import { type NetworkFacts, outlineOf } from "./netmap.js";
import type { Registry } from "./registry.js";
import type { Relays, RelaysTold } from "./relays.js";
import type { Switchboard, Told } from "./switchboard.js";

export const BODY_BYTES_MAX = 64 * 1024;

export type ApiParts = {
  readonly registry: Registry;
  readonly switchboard: Switchboard;
  readonly relays: Relays;
  readonly facts: NetworkFacts;
  readonly status: () => CoordinatorStatus;
  readonly now: () => Millis;
  readonly log?: Log;
};

/** Who may call: whoever holds the token, or whoever reached the socket. */
export type Gate =
  | { readonly kind: "token"; readonly sha256: string; readonly lockout: Lockout }
  | { readonly kind: "socket" };

type Env = { Bindings: { readonly remote: string } };

/** The administration API of wire/adminapi.ts as a function from request to response. */
export function makeApi(parts: ApiParts, gate: Gate): Hono<Env> {
  const { registry, switchboard, relays } = parts;
  const app = new Hono<Env>();
  app.onError((error, context) => problem(context, asFailure(error), parts));
  app.notFound((context) => problem(context, new Failure("not-found", `nothing is at ${context.req.path}`), parts));
  app.get("/healthz", (context) => context.text("ok\n"));

  const api = app.basePath(API_PREFIX);
  api.use(async (context, next) => {
    authorize(gate, context, parts.now());
    await next();
  });
  api.get("/status", (context) => context.json(parts.status()));

  api.post("/keys", async (context) => {
    const wanted = parseWith(keyRequest, tryJson(await bodyText(context.req.raw)), "the request for a join key");
    const { info, secret } = await registry.createKey(wanted);
    const { publicKey, urls } = parts.status();
    const joinKey = encodeJoinKey({ coordinatorKey: parseKey(publicKey), urls, secret });
    parts.log?.info("join key made", { key: info.id, role: info.role });
    return context.json({ ...info, joinKey }, 201);
  });
  api.get("/keys", async (context) => context.json({ keys: await registry.keys() }));
  api.delete("/keys/:id", async (context) => {
    await registry.revokeKey(context.req.param("id"));
    return context.body(null, 204);
  });

  api.get("/devices", (context) =>
    context.json({ devices: [...registry.devices.values()].map((device) => describeDevice(device, parts)) }),
  );
  const revoke = async (idOrName: string): Promise<{ device: Device; told: Told & { relays: RelaysTold } }> => {
    const device = await registry.revoke(idOrName);
    const [told, relaysTold] = await Promise.all([switchboard.expel(device.id), relays.revoke(device.machineKey)]);
    parts.log?.info("device revoked", { device: device.id, name: device.name, ...told, relays: relaysTold });
    return { device, told: { ...told, relays: relaysTold } };
  };
  api.post("/devices/:id/revoke", async (context) => {
    const { device, told } = await revoke(context.req.param("id"));
    return context.json({ ...describeDevice(device, parts), told });
  });
  api.delete("/devices/:id", async (context) => {
    const { device } = await revoke(context.req.param("id"));
    await registry.remove(device.id);
    return context.body(null, 204);
  });

  api.get("/relays", (context) => context.json({ relays: relays.describe() }));
  api.put("/relays/:name", async (context) => {
    const body = tryJson(await bodyText(context.req.raw));
    const named = { ...(typeof body === "object" ? body : {}), name: context.req.param("name") };
    const relay = parseWith(remoteRelay, named, "the request for a relay");
    const isNew = await relays.add(relay);
    if (isNew) {
      switchboard.relaysChanged();
      parts.log?.info("relay added", { name: relay.name, url: relay.url });
    }
    return context.json(
      relays.describe().find(({ name }) => name === relay.name),
      isNew ? 201 : 200,
    );
  });
  api.delete("/relays/:name", async (context) => {
    await relays.remove(context.req.param("name"));
    switchboard.relaysChanged();
    return context.body(null, 204);
  });
  return app;
}

function describeDevice(device: Device, { switchboard, facts }: ApiParts): DeviceInfo {
  return {
    ...outlineOf(device, switchboard.isOnline(device.id), facts),
    agentVersion: device.agentVersion,
    createdAtMs: device.createdAtMs,
    ...(device.lastSeenAtMs === undefined ? {} : { lastSeenAtMs: device.lastSeenAtMs }),
    ...(device.revokedAtMs === undefined ? {} : { revokedAtMs: device.revokedAtMs }),
  };
}

function authorize(gate: Gate, context: Context<Env>, now: Millis): void {
  if (gate.kind === "socket") return;
  const { remote } = context.env;
  if (gate.lockout.isLocked(remote, now))
    throw new Failure("too-many-attempts", "too many wrong tokens came from this address", {
      advice: "wait a minute, then try with the right token",
    });
  const token = /^Bearer (\S{1,256})$/.exec(context.req.header("authorization") ?? "")?.[1];
  const expected = fromHex(gate.sha256);
  if (token !== undefined && expected !== undefined && equalSecrets(sha256(utf8(token)), expected)) return;
  if (token !== undefined) gate.lockout.failed(remote, now);
  throw new Failure("token-refused", "the admin token is missing or wrong", {
    advice: "put the coordinator's admin token into credentials.yaml, under coordinator.adminToken",
  });
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

const STATUS: Record<string, 400 | 401 | 404 | 409 | 413 | 429> = {
  "message-invalid": 400,
  "token-refused": 401,
  "not-found": 404,
  "device-unknown": 404,
  "key-unknown": 404,
  "keys-full": 409,
  "relay-unknown": 404,
  "relays-full": 409,
  "relay-configured": 409,
  "message-too-long": 413,
  "too-many-attempts": 429,
};

/** RFC 9457 §3; what we did not foresee says nothing of our inside. */
function problem(context: Context<Env>, failure: Failure, { log }: ApiParts): Response {
  const status = STATUS[failure.code] ?? 500;
  if (status === 500) log?.error("request failed", { path: context.req.path, reason: failure.message });
  const { code, message, advice } =
    status === 500 && failure.code === "internal"
      ? new Failure("internal", "the coordinator failed; its log says why")
      : failure;
  const body = { type: "about:blank", status, title: code, detail: message, code, ...(advice ? { advice } : {}) };
  return context.json(body, status, { "content-type": "application/problem+json" });
}
