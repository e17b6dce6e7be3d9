import * as z from "zod";
import { remoteRelay } from "./coordinatorconfig.js";
import { deviceName, ip, role } from "./schema.js";

/**
 * The coordinator's HTTP API under /api/v1, on the admin socket (no token: the socket's mode is the right) and over
 * HTTPS with `Authorization: Bearer TOKEN`. Errors are application/problem+json (RFC 9457) with `code` and `advice`.
 *
 *   GET    /api/v1/status              → coordinatorStatus
 *   POST   /api/v1/keys                keyRequest → createdKey
 *   GET    /api/v1/keys                → { keys: keyInfo[] }
 *   DELETE /api/v1/keys/:id
 *   GET    /api/v1/devices             → { devices: deviceInfo[] }
 *   POST   /api/v1/devices/:id/revoke  (id or name) → deviceInfo; connected peers have been told when it answers
 *   DELETE /api/v1/devices/:id         forgets it: revokes first, frees the name
 *   GET    /api/v1/relays              → { relays: relayInfo[] }
 *   PUT    /api/v1/relays/:name        remoteRelay without its name → relayInfo
 *   DELETE /api/v1/relays/:name
 */
export const API_PREFIX = "/api/v1";

/** What a caller may be allowed to do. */
export const SCOPES = [
  "status:read",
  "devices:read",
  "devices:write",
  "keys:read",
  "keys:write",
  "relays:read",
  "relays:write",
  "policy:read",
  "policy:write",
  "names:read",
  "names:write",
  "users:read",
  "users:write",
  "tokens:read",
  "tokens:write",
  "audit:read",
  "webhooks:read",
  "webhooks:write",
] as const;
export type Scope = (typeof SCOPES)[number];

export const coordinatorStatus = z.object({
  version: z.string(),
  publicKey: z.string(),
  /** SHA-256 of its certificate, colon-separated upper-case hex: what an administrator's machine pins. */
  tlsFingerprint: z.string(),
  urls: z.array(z.string()),
  devices: z.number().int(),
  online: z.number().int(),
  startedAtMs: z.number(),
  /** Public half of the key that signs admissions: what a relay is told to serve. Older coordinators have none. */
  admissionKey: z.string().optional(),
  /** How many relays are in the map, the one beside the coordinator included. */
  relays: z.number().int().default(0),
  /** Since the start: what went from device to device through the coordinator, in calls and in bytes of probes. */
  forwardedCalls: z.number().int().default(0),
  forwardedCallBytes: z.number().int().default(0),
});
export type CoordinatorStatus = z.infer<typeof coordinatorStatus>;

export const KEY_LIFETIME_MS_DEFAULT = 15 * 60_000;
export const KEY_LIFETIME_MS_MAX = 90 * 24 * 3_600_000;

export const keyRequest = z.strictObject({
  role,
  lifetimeMs: z.number().int().min(1_000).max(KEY_LIFETIME_MS_MAX).default(KEY_LIFETIME_MS_DEFAULT),
  /** The name the device gets; without it, the one the device asks for. */
  name: deviceName.optional(),
  reusable: z.boolean().default(false),
});
export type KeyRequest = z.input<typeof keyRequest>;

export const keyInfo = z.object({
  id: z.string(),
  role,
  name: z.string().optional(),
  reusable: z.boolean(),
  createdAtMs: z.number(),
  expiresAtMs: z.number(),
  state: z.enum(["valid", "used", "expired", "revoked"]),
});
export type KeyInfo = z.infer<typeof keyInfo>;
/** The join key itself is shown this once. */
export const createdKey = keyInfo.extend({ joinKey: z.string() });
export type CreatedKey = z.infer<typeof createdKey>;

export const deviceInfo = z.object({
  id: z.string(),
  name: z.string(),
  role,
  publicKey: z.string(),
  addresses: z.array(ip),
  routes: z.array(z.string()),
  endpoints: z.array(z.string()),
  homeRelay: z.string().optional(),
  online: z.boolean(),
  agentVersion: z.string(),
  createdAtMs: z.number(),
  lastSeenAtMs: z.number().optional(),
  revokedAtMs: z.number().optional(),
  /** In the answer to a revocation: the connected peers, how many confirmed the new map, and within what time. */
  told: z
    .object({
      peers: z.number(),
      confirmed: z.number(),
      tookMs: z.number(),
      /** The relays that were told, and the names of those that have not confirmed: they are told again and again. */
      relays: z.object({ asked: z.number(), confirmed: z.number(), silent: z.array(z.string()) }).optional(),
    })
    .optional(),
});
export type DeviceInfo = z.infer<typeof deviceInfo>;

/** The body that adds a relay, whose name is in the path. */
export const relayRequest = remoteRelay.omit({ name: true });

export const relayInfo = z.object({
  name: z.string(),
  url: z.string(),
  relayKey: z.string(),
  stunPort: z.number().int(),
  otherStunPort: z.number().int().optional(),
  /** own: beside the coordinator; configured: from its file; added: through this API, which alone can remove it. */
  kind: z.enum(["own", "configured", "added"]),
  tlsFingerprint: z.string().optional(),
});
export type RelayInfo = z.infer<typeof relayInfo>;
