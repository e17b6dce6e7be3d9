import * as z from "zod";
import { isDialAddress } from "../kit/endpoint.js";
import { remoteRelay } from "./coordinatorconfig.js";
import { deviceLock, lockRecord, lockSecret, lockSignature } from "./lock.js";
import { TAGS_MAX, waiting } from "./map.js";
import { cidr, deviceName, ip, key, role } from "./schema.js";

/**
 * The coordinator's HTTP API under /api/v1, on the admin socket (no token: the socket's mode is the right) and over
 * HTTPS with `Authorization: Bearer TOKEN`. Errors are application/problem+json (RFC 9457) with `code` and `advice`.
 *
 *   GET    /api/v1/status              → coordinatorStatus
 *   POST   /api/v1/keys                keyRequest → createdKey
 *   GET    /api/v1/keys                → { keys: keyInfo[] }
 *   DELETE /api/v1/keys/:id
 *   GET    /api/v1/devices             → { devices: deviceInfo[] }
 *   POST   /api/v1/devices             appRequest → addedApp
 *   POST   /api/v1/devices/:id/revoke  (id or name) → deviceInfo; connected peers have been told when it answers
 *   POST   /api/v1/devices/:id/approve → deviceInfo
 *   PATCH  /api/v1/devices/:id         deviceRequest → deviceInfo
 *   GET    /api/v1/settings            → networkSettings
 *   PATCH  /api/v1/settings            settingsRequest → networkSettings
 *   POST   /api/v1/tokens              tokenRequest → createdToken
 *   GET    /api/v1/tokens              → { tokens: tokenInfo[] }
 *   DELETE /api/v1/tokens/:id
 *   DELETE /api/v1/devices/:id         forgets it: revokes first, frees the name
 *   GET    /api/v1/lock                → mapLock
 *   POST   /api/v1/lock                deviceLockRequest → mapLock
 *   POST   /api/v1/lock/signatures     signatureRequest
 *   POST   /api/v1/lock/end            lockEnd
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
  "settings:read",
  "settings:write",
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

/** Without "tag:". */
export const tags = z.array(deviceName).max(TAGS_MAX);

export const keyRequest = z.strictObject({
  role,
  lifetimeMs: z.number().int().min(1_000).max(KEY_LIFETIME_MS_MAX).default(KEY_LIFETIME_MS_DEFAULT),
  /** The name the device gets; without it, the one the device asks for. */
  name: deviceName.optional(),
  reusable: z.boolean().default(false),
  /** Whose its devices are, by id or login; without it a member's key makes devices of theirs, and others' nobody's. */
  user: z.string().min(1).max(254).optional(),
  tags: tags.default([]),
  /** Its devices are forgotten some minutes after they leave. */
  ephemeral: z.boolean().default(false),
  /** Its devices need no approval; without it, as the network's settings say, and always for an exit node. */
  preapproved: z.boolean().optional(),
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
  /** Whose its devices are. */
  userId: z.string().optional(),
  user: z.string().optional(),
  tags: tags.default([]),
  ephemeral: z.boolean().default(false),
  preapproved: z.boolean().default(true),
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
  discoveryKey: z.string().optional(),
  addresses: z.array(ip),
  routes: z.array(z.string()),
  endpoints: z.array(z.string()),
  homeRelay: z.string().optional(),
  online: z.boolean(),
  agentVersion: z.string(),
  createdAtMs: z.number(),
  lastSeenAtMs: z.number().optional(),
  revokedAtMs: z.number().optional(),
  userId: z.string().optional(),
  /** The login of its person, where it does not act as its tags. */
  user: z.string().optional(),
  tags: tags.default([]),
  ephemeral: z.boolean().default(false),
  /** Why it has no peers; "lock": no trusted device has signed for it. */
  waiting: z.enum([...waiting.options, "lock"]).optional(),
  /** Without it: never. */
  keyExpiresAtMs: z.number().optional(),
  /** When its agent makes itself a new WireGuard key; without it: never by itself. */
  rotateAtMs: z.number().optional(),
  /** Its part in the device lock; absent for an agent that knows of none. */
  lock: deviceLock.optional(),
  /** A WireGuard app, and the exit node that its configuration is for. */
  app: z
    .object({
      /** By its name; by its id when it is no more. */
      exit: z.string(),
      /** What it dials. */
      endpoint: z.string(),
      /** Why its configuration leads nowhere any more: the exit node is gone, or has another key or address. */
      stale: z.enum(["exit", "key", "address"]).optional(),
    })
    .optional(),
  /**
   * In the answer to a revocation: the connected peers, those of other coordinators too, how many confirmed the new map,
   * and within what time.
   */
  told: z
    .object({
      peers: z.number(),
      confirmed: z.number(),
      tookMs: z.number(),
      devices: z
        .array(z.object({ name: z.string(), ms: z.number() }))
        .optional()
        .describe(
          "When each had it in force, in milliseconds, the slowest first; at most 100, and 25 of each other coordinator's",
        ),
      silent: z
        .array(z.string())
        .optional()
        .describe("Who is connected and had not confirmed after two seconds; as many are named"),
      unheard: z
        .number()
        .int()
        .optional()
        .describe("Other coordinators that did not tell in time: their devices are not counted"),
      /** The relays that were told, and the names of those that have not confirmed: they are told again and again. */
      relays: z.object({ asked: z.number(), confirmed: z.number(), silent: z.array(z.string()) }).optional(),
    })
    .optional(),
});
export type DeviceInfo = z.infer<typeof deviceInfo>;

/** A WireGuard app to be let in, with a key pair that was made for it. */
export const appRequest = z.strictObject({
  name: deviceName,
  /** Its private half is for the app alone. */
  publicKey: key,
  /** Its only peer, by id or name; without it the one exit node that there is. */
  exit: z.string().min(1).max(64).optional(),
  /** HOST:PORT, which the app dials; without it an address at which the exit node is known to be open. */
  endpoint: z
    .string()
    .max(256)
    .refine(isDialAddress, "must be HOST:PORT, as home.example.org:51820 or [2001:db8::7]:51820")
    .optional(),
  /** It is to send the network's own addresses through the tunnel, and nothing else. */
  onlyNetwork: z.boolean().default(false),
  /** Whose it is, by id or login; without it a member's own, and others' nobody's. */
  user: z.string().min(1).max(254).optional(),
  tags: tags.default([]),
  /** Speaks for its public key where the network has a device lock. */
  lock: deviceLock.omit({ signature: true }).optional(),
});
export type AppRequest = z.input<typeof appRequest>;

/** The device, and what else its configuration says. */
export const addedApp = deviceInfo.extend({
  tunnel: z.object({
    exitKey: key,
    /** The network's own. */
    ranges: z.array(cidr),
    /** Who resolves names for those that use the exit node. */
    resolvers: z.array(ip),
    mtu: z.number().int(),
  }),
});
export type AddedApp = z.infer<typeof addedApp>;

/** What changes about a device; what is left out stays. */
export const deviceRequest = z.strictObject({
  name: deviceName.optional(),
  tags: tags.optional(),
  /** Its key: ends now, or never. */
  key: z.enum(["expires-now", "never-expires"]).optional(),
});
export type DeviceRequest = z.infer<typeof deviceRequest>;

/** A shorter one would change keys all the time. */
const KEY_PERIOD_MS_MIN = 3_600_000;
const KEY_PERIOD_MS_MAX = 10 * 365 * 24 * 3_600_000;
const keyPeriod = z
  .number()
  .int()
  .min(0)
  .max(KEY_PERIOD_MS_MAX)
  .refine((ms) => ms === 0 || ms >= KEY_PERIOD_MS_MIN, "must be an hour at least, or 0");

/** What holds for the whole network. */
export const networkSettings = z.object({
  /** Whether a device waits for an administrator, unless its join key says otherwise. */
  approvalRequired: z.boolean(),
  /** From when a person's device comes in to when its person has to sign in again; 0: never. */
  keyLifetimeMs: z.number().int().min(0).max(KEY_PERIOD_MS_MAX),
  /** After what time a device's agent makes itself a new WireGuard key, unattended; 0: never by itself. */
  keyRotationMs: keyPeriod,
  /** For how long an exit node's WireGuard key counts; its agent makes a new one in half of that time. 0: for ever. */
  exitKeyLifetimeMs: keyPeriod,
});
export type NetworkSettings = z.infer<typeof networkSettings>;
export const settingsRequest = z.strictObject(networkSettings.shape).partial();
export type SettingsRequest = z.infer<typeof settingsRequest>;

export const TOKEN_LIFETIME_MS_DEFAULT = 90 * 24 * 3_600_000;
export const TOKEN_LIFETIME_MS_MAX = 365 * 24 * 3_600_000;
const scope = z.enum(SCOPES);

export const tokenRequest = z.strictObject({
  /** For people: what it is for. */
  name: z.string().min(1).max(64).default("token"),
  scopes: z.array(scope).min(1).max(SCOPES.length),
  lifetimeMs: z.number().int().min(1_000).max(TOKEN_LIFETIME_MS_MAX).default(TOKEN_LIFETIME_MS_DEFAULT),
});

export const tokenInfo = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  userId: z.string().optional(),
  createdAtMs: z.number(),
  expiresAtMs: z.number().optional(),
  usedAtMs: z.number().optional(),
  state: z.enum(["valid", "expired", "revoked"]),
});
export type TokenInfo = z.infer<typeof tokenInfo>;
/** The token itself is shown this once. */
export const createdToken = tokenInfo.extend({ token: z.string() });

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

/** Signatures handed in at once; of more, the rest afterwards. */
export const SIGNATURES_MAX = 200;

/** For a device, by id or name. */
const signatureEntry = z.strictObject({ device: z.string().min(1).max(64), signature: lockSignature });
export type SignatureEntry = z.infer<typeof signatureEntry>;

/** Who is trusted from now on; and what is signed in the same moment. */
export const deviceLockRequest = z.strictObject({
  record: lockRecord,
  signatures: z.array(signatureEntry).max(SIGNATURES_MAX).optional(),
});
export type DeviceLockRequest = z.infer<typeof deviceLockRequest>;
export const signatureRequest = z.strictObject({ signatures: z.array(signatureEntry).min(1).max(SIGNATURES_MAX) });
export const lockEnd = z.strictObject({ secret: lockSecret });
