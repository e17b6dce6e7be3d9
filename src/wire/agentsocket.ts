import * as z from "zod";
import { SIGNATURES_MAX } from "./adminapi.js";
import { LOCK_RECORDS_MAX, lockId, lockRecord, lockSignature, SHUT_OUT_MAX, TRUSTED_MAX } from "./lock.js";
import { owned, waiting } from "./map.js";
import { dnsChoice } from "./names.js";
import { deviceName, ip, key, role } from "./schema.js";

/** Exits that one device chooses among; and the word for whichever of them answers the quickest. */
export const EXITS_MAX = 16;
export const NEAREST = "nearest";

/**
 * The agent's local socket: one JSON request a line, one JSON answer a line, in turn.
 * Connecting needs the socket's mode (0660, the agent's group); root always may.
 */
export const agentRequest = z.discriminatedUnion("do", [
  z.object({ do: z.literal("status") }),
  /** Send everything through this exit node, or the next of the others while it fails; null: through none. */
  z.object({
    do: z.literal("use"),
    exit: deviceName.nullable(),
    others: z
      .array(deviceName)
      .max(EXITS_MAX - 1)
      .optional(),
    dns: dnsChoice.optional(),
  }),
  /** The public addresses of this machine past the tunnel, as the whoami services see the agent itself. */
  z.object({ do: z.literal("whoami") }),
  /** Which look-ups below this name of the canary domain have come to the agent's resolver. */
  z.object({ do: z.literal("canaries"), name: deviceName }),
  /** What stands between this device and the others: asks STUN, the relays, the router and whoami anew. */
  z.object({ do: z.literal("netcheck") }),
  /** One round trip to a peer, on the way its traffic goes now; asking begins the search for a better one. */
  z.object({ do: z.literal("ping"), peer: deviceName }),
  /** Makes a new WireGuard key, and uses it once the coordinator knows it. */
  z.object({ do: z.literal("rotate") }),
  /** What this device holds of the device lock. */
  z.object({ do: z.literal("lock") }),
  /** Signs a record of the trusted devices, of this device's lock or, where it knows of none, of a new one. */
  z.object({
    do: z.literal("lock-record"),
    lock: lockId,
    version: z
      .number()
      .int()
      .min(1)
      .max(2 ** 32 - 1),
    /** Hexadecimal, of the secret that ends the lock. */
    secretHash: z.string().regex(/^[0-9a-f]{64}$/),
    keys: z.array(key).min(1).max(TRUSTED_MAX),
    shutOut: z.array(key).max(SHUT_OUT_MAX),
  }),
  /** Signs devices' lock keys. */
  z.object({ do: z.literal("lock-sign"), lock: lockId, keys: z.array(key).min(1).max(SIGNATURES_MAX) }),
  /** Records that this device is to take in before it hears them from the coordinator. */
  z.object({ do: z.literal("lock-take"), records: z.array(lockRecord).max(LOCK_RECORDS_MAX) }),
  /** Believes anew the first lock it hears of. */
  z.object({ do: z.literal("lock-forget") }),
  /** Leaves the machine's routing as it was before `up`, then exits. */
  z.object({ do: z.literal("shutdown") }),
]);
export type AgentRequest = z.infer<typeof agentRequest>;

export const pathKind = z.enum(["searching", "relayed", "direct"]);

/** Something in words, and what a person could do about it. */
const explained = z.object({ words: z.string(), help: z.string() });

export const agentStatus = z.object({
  version: z.string(),
  name: z.string(),
  role,
  addresses: z.array(ip),
  ...owned,
  /** WireGuard's, as it is in use. */
  publicKey: z.string().optional(),
  dataPlane: z.enum(["kernel", "userspace"]),
  interface: z.string(),
  listenPort: z.number(),
  /** The tunnel's, as the paths in use carry it. */
  mtu: z.number().optional(),
  /** What did not leave this machine since the interface was made, where the data plane counts it. */
  unsent: z.object({ looped: z.number(), refused: z.number() }).optional(),
  coordinator: z.object({
    url: z.string().optional(),
    connected: z.boolean(),
    /** Why not, in words. */
    reason: z.string().optional(),
    /** The code of a refusal that will not be tried again. */
    refusal: z.string().optional(),
    /** Age of the map in force. */
    mapAgeMs: z.number().optional(),
    mapSeq: z.number().optional(),
  }),
  /** Why it has no peers; "lock": no trusted device has signed for it. */
  waiting: z.enum([...waiting.options, "lock"]).optional(),
  /** Where there is a device lock: this device's lock key as people compare it, and peers that it keeps out. */
  lock: z
    .object({
      fingerprint: z.string(),
      version: z.number(),
      kept: z.array(z.object({ name: z.string(), why: z.enum(["unsigned", "shut-out", "no-lock-key", "other-keys"]) })),
    })
    .optional(),
  /** When its person has to sign in again. */
  keyExpiresAtMs: z.number().optional(),
  /** The exit node in use. */
  exit: z
    .object({
      ...{ name: z.string(), ipv4: z.boolean(), ipv6: z.boolean(), state: z.enum(["active", "waiting", "gone"]) },
      /** Where several were asked for: in which order, how each does, and why the one in use is. */
      wanted: z.union([z.array(z.string()), z.literal(NEAREST)]).optional(),
      exits: z
        .array(
          z.object({
            name: z.string(),
            state: z.enum(["answers", "silent", "unknown"]),
            roundTripMs: z.number().optional(),
          }),
        )
        .optional(),
      switched: z
        .object({
          from: z.string(),
          why: z.enum(["silent", "cut-off", "gone", "back", "nearer"]),
          agoMs: z.number(),
        })
        .optional(),
      /** No time while that one does not answer; it has to for so long. */
      returns: z.object({ to: z.string(), inMs: z.number().optional(), holdMs: z.number() }).optional(),
    })
    .optional(),
  /** How look-ups go; absent where they are left alone. */
  dns: z
    .object({
      /** The network's own. */
      domain: z.string().optional(),
      /** In force while an exit is used. */
      choice: dnsChoice.optional(),
      /** Who is asked what is not the network's own. */
      servers: z.array(ip),
      way: z.enum(["tunnel", "direct"]),
      /** What is not as one would expect. */
      note: z.string().optional(),
    })
    .optional(),
  peers: z.array(
    z.object({
      name: z.string(),
      role,
      addresses: z.array(ip),
      ...owned,
      app: z.literal(true).optional(),
      online: z.boolean(),
      path: pathKind,
      /** Where its datagrams go when the path is direct. */
      endpoint: z.string().optional(),
      /** Of the direct path. */
      roundTripMs: z.number().optional(),
      /** The name of the relay that its datagrams go through, wholly or until a direct path is proven. */
      relay: z.string().optional(),
      /** Why it is relayed. */
      why: explained.optional(),
      lastHandshakeAgeMs: z.number().optional(),
      /** Since it was last heard; only where it leaves unanswered what WireGuard sends it. */
      silentMs: z.number().optional(),
      receivedBytes: z.number(),
      sentBytes: z.number(),
    }),
  ),
  /** What the network here does to UDP, as far as is known. */
  nat: z.object({ is: z.string(), means: z.string() }).optional(),
  /** The name of the relay at which peers find this device. */
  homeRelay: z.string().optional(),
  warnings: z.array(z.string()),
});
export type AgentStatus = z.infer<typeof agentStatus>;

export const whoamiAnswer = z.object({ ipv4: ip.optional(), ipv6: ip.optional() });
export type WhoamiAnswer = z.infer<typeof whoamiAnswer>;

/** The labels before the name. */
export const canariesAnswer = z.object({ seen: z.array(z.string()) });
export type CanariesAnswer = z.infer<typeof canariesAnswer>;

export const portmapOutcome = z.enum(["absent", "offered", "mapped"]);

export const netcheckAnswer = z.object({
  /** Whether UDP gets out; undefined when there is nobody to ask. */
  udp: z.boolean().optional(),
  /** The public address and port of WireGuard's port, by family. */
  ipv4: z.string().optional(),
  ipv6: z.string().optional(),
  nat: z.object({ is: z.string(), means: z.string() }).optional(),
  portmap: z.object({
    pcp: portmapOutcome,
    natpmp: portmapOutcome,
    upnp: portmapOutcome,
    /** The proven mapping. */
    endpoint: z.string().optional(),
    /** Why there is none, a line per reason. */
    why: z.array(z.string()),
  }),
  /** The port that the configuration calls forwarded; "elsewhere" is also nowhere at all. */
  forward: z.object({ endpoint: z.string(), leads: z.enum(["untried", "here", "elsewhere"]) }).optional(),
  relays: z.array(
    z.object({
      name: z.string(),
      url: z.string(),
      home: z.boolean(),
      state: z.enum(["connected", "idle", "failing"]),
      reason: z.string().optional(),
      /** Of STUN; undefined when it does not answer. */
      roundTripMs: z.number().optional(),
    }),
  ),
  /** Something answers in the place of whoami: a page to log in at, most likely. Undefined when nobody could be asked. */
  captivePortal: z.boolean().optional(),
});
export type NetcheckAnswer = z.infer<typeof netcheckAnswer>;

export const pingAnswer = z.object({
  peer: z.string(),
  path: pathKind,
  endpoint: z.string().optional(),
  relay: z.string().optional(),
  /** Undefined: no answer in time. */
  roundTripMs: z.number().optional(),
  /** Why it is relayed, or not reached. */
  why: explained.optional(),
});
export type PingAnswer = z.infer<typeof pingAnswer>;

/** The device's own lock key, and the records it has verified, the last one in force; none: it knows of no lock. */
export const lockAnswer = z.object({
  key,
  records: z.array(lockRecord),
  /** The first of them was taken on the coordinator's word. */
  believed: z.boolean().optional(),
  trouble: z.string().optional(),
});
export type LockAnswer = z.infer<typeof lockAnswer>;

export const lockRecordAnswer = z.object({ record: lockRecord });
/** In the order of the keys. */
export const lockSignAnswer = z.object({ signatures: z.array(lockSignature) });

/** What a request is answered with, by its kind. */
export type AgentValue =
  | AgentStatus
  | WhoamiAnswer
  | NetcheckAnswer
  | PingAnswer
  | CanariesAnswer
  | LockAnswer
  | z.infer<typeof lockRecordAnswer>
  | z.infer<typeof lockSignAnswer>
  | undefined;

export const agentAnswer = z.union([
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({
    ok: z.literal(false),
    error: z.object({ code: z.string(), message: z.string(), advice: z.string().optional() }),
  }),
]);
