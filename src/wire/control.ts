import * as z from "zod";
import { fromUtf8, utf8 } from "../kit/bytes.js";
import { tryJson } from "../kit/json.js";
import { deviceLock } from "./lock.js";
import { ENDPOINTS_MAX, mapDelta, networkMap } from "./map.js";
import { cidr, deviceName, ip, key } from "./schema.js";
import { mapSeal } from "./seal.js";

/**
 * The control channel: JSON messages, each one transport message of a Noise_IK_25519_ChaChaPoly_BLAKE2s session
 * (see noise.ts) in one binary WebSocket frame at CONTROL_PATH.
 *
 *   device → coordinator  hello            first; with a join secret when the device is new
 *   coordinator → device  welcome | refused | sign-in (come back every SIGN_IN_POLL_MS until somebody has confirmed it), then map, and delta (to older devices: map) on every change
 *   device → coordinator  report           endpoints and offers changed
 *   device → coordinator  resync           a delta does not fit on the map it has: it wants a whole one
 *   device → coordinator  applied          that map or delta was marked `confirm`, and it is in force here
 *   coordinator → device  seal             proves the map to the device itself after a restart (seal.ts)
 *   coordinator → device  admission        to the network's relays; renewed before it expires
 *   either way            call             a sealed probe for or from a peer, handed on unread
 *   either way            ping → pong      PING_INTERVAL_MS; silence for SILENCE_MAX_MS ends the connection
 */
export const CONTROL_PATH = "/control";
export const CONTROL_VERSION = 1;
/** Bound in the first Noise message: a different protocol on the same keys cannot be confused with this one. */
export const CONTROL_PROLOGUE = "exitnode control 1";
/** The whole map of an exit node that 10,000 devices may use is 5 MB. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;
export const PING_INTERVAL_MS = 15_000;
export const SILENCE_MAX_MS = 40_000;
export const SIGN_IN_POLL_MS = 2_000;

/** Base64 of a sealed probe (probe.ts) that finds no other way to its receiver. */
const sealedProbe = z.base64().max(4_096);

/** WireGuard apps that an exit node tells of, of more the latest. */
export const APPS_TOLD_MAX = 256;

/** What a device tells about itself; sent whole each time. */
export const deviceReport = z.object({
  /** address:port, most promising first. */
  endpoints: z.array(z.string().max(64)).max(ENDPOINTS_MAX),
  /** Routes it offers; the coordinator approves them by role. */
  routes: z.array(cidr).max(64),
  resolvers: z.array(ip).max(4),
  discoveryKey: key.optional(),
  homeRelay: z.string().max(64).optional(),
  /** Those endpoints at which a stranger's first datagram is known to arrive; an older agent says nothing of it. */
  open: z.array(z.string().max(64)).max(ENDPOINTS_MAX).optional(),
  /** When the WireGuard apps that go through it were there, by device id and its own clock. */
  apps: z
    .array(z.object({ id: z.string().max(64), atMs: z.number() }))
    .max(APPS_TOLD_MAX)
    .optional(),
});
export type DeviceReport = z.infer<typeof deviceReport>;

export const toCoordinator = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("hello"),
    version: z.number().int(),
    agentVersion: z.string().max(64),
    /** Wanted name; the coordinator appends -2, -3 … when a device's is taken and refuses when an exit node's is. */
    name: deviceName,
    /** The WireGuard public key. */
    publicKey: key,
    /** The secret of a join key; absent once the machine key is known. */
    joinSecret: z.string().max(128).optional(),
    /** A person is there to sign in: for a machine without a join key, or whose key has expired. */
    signIn: z.boolean().optional(),
    report: deviceReport,
    /** Its lock key, which speaks for the keys of this very message; an older agent has none. */
    lock: deviceLock.omit({ signature: true }).optional(),
    /** What it does beyond the first version: "delta" is deltas, `confirm` and seals; "rotate" heeds `rotateAtMs`. */
    speaks: z.array(z.string().max(32)).max(16).optional(),
    /** The number of the map it has: a coordinator that gave it sends what has changed since. */
    haveSeq: z.number().int().nonnegative().optional(),
  }),
  z.object({ type: z.literal("resync") }),
  z.object({ type: z.literal("applied"), seq: z.number().int().nonnegative() }),
  z.object({ type: z.literal("report"), report: deviceReport }),
  z.object({ type: z.literal("call"), to: key, probe: sealedProbe }),
  z.object({ type: z.literal("ping"), sentAt: z.number() }),
  z.object({ type: z.literal("pong"), sentAt: z.number() }),
]);
export type ToCoordinator = z.infer<typeof toCoordinator>;

/** Why a device is not let in; `final` ones are not retried. */
export const REFUSALS = {
  "join-key-required": "this device is not known, and it brought no join key",
  "join-key-unknown": "the join key is not one of this coordinator's, or was revoked",
  "join-key-expired": "the join key has expired",
  "join-key-used": "the join key was used already",
  "name-taken": "an exit node of that name exists",
  "key-taken": "another device has that WireGuard key",
  "device-revoked": "this device was revoked",
  "version-unsupported": "the control protocol's version is not spoken here",
  "sign-in-refused": "the sign-in was refused: by the person, or because this device is somebody else's",
  "sign-ins-full": "too many machines wait for a sign-in; try again in some minutes",
  "sign-in-unavailable": "signing in is not set up at this coordinator, or its identity provider does not answer",
  full: "the coordinator holds as many devices as it may",
} as const;
export type Refusal = keyof typeof REFUSALS;

export const toDevice = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("welcome"),
    deviceId: z.string(),
    coordinatorVersion: z.string(),
    /** The public half of the key that seals maps. */
    sealKey: key.optional(),
  }),
  z.object({
    type: z.literal("refused"),
    code: z.enum(Object.keys(REFUSALS) as [Refusal, ...Refusal[]]),
    message: z.string(),
  }),
  /** Whoever opens `url` and sees `code` there may let this machine in. */
  z.object({
    type: z.literal("sign-in"),
    url: z.string().max(2_048),
    code: z.string().max(64),
    expiresAtMs: z.number(),
  }),
  z.object({ type: z.literal("map"), map: networkMap, confirm: z.boolean().optional() }),
  z.object({ type: z.literal("delta"), delta: mapDelta, confirm: z.boolean().optional() }),
  z.object({ type: z.literal("seal"), seal: mapSeal }),
  z.object({ type: z.literal("admission"), admission: z.base64().max(512) }),
  z.object({ type: z.literal("call"), from: key, probe: sealedProbe }),
  z.object({ type: z.literal("ping"), sentAt: z.number() }),
  z.object({ type: z.literal("pong"), sentAt: z.number() }),
]);
export type ToDevice = z.infer<typeof toDevice>;

/** The plaintext of one transport message. */
export function encodeControl(message: ToCoordinator | ToDevice): Uint8Array {
  return utf8(JSON.stringify(message));
}

/** Undefined when the bytes are no message this version knows. */
export function decodeToCoordinator(bytes: Uint8Array): ToCoordinator | undefined {
  return toCoordinator.safeParse(tryJson(fromUtf8(bytes) ?? "")).data;
}

/** A message with the JSON value it came as: a seal covers also what this version does not know. */
export type HeardByDevice = { readonly message: ToDevice; readonly raw: unknown };

/** Undefined when the bytes are no message this version knows. */
export function hearFromCoordinator(bytes: Uint8Array): HeardByDevice | undefined {
  const raw = tryJson(fromUtf8(bytes) ?? "");
  const message = toDevice.safeParse(raw).data;
  return message === undefined ? undefined : { message, raw };
}

/** Undefined when the bytes are no message this version knows. */
export const decodeToDevice = (bytes: Uint8Array): ToDevice | undefined => hearFromCoordinator(bytes)?.message;
