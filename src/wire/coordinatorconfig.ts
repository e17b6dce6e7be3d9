import * as z from "zod";
import { identityConfig } from "./identity.js";
import { RELAYS_MAX } from "./map.js";
import { cidr, deviceName, key } from "./schema.js";

/** The name and id of the relay beside the coordinator. */
export const OWN_RELAY = "coordinator";
/** One place in the map is the own relay's. */
export const REMOTE_RELAYS_MAX = RELAYS_MAX - 1;

/** In configurations and the administration API: a relay on another machine. */
export const remoteRelay = z.strictObject({
  /** Also its id: devices name their home relay by it. */
  name: deviceName.refine((name) => name !== OWN_RELAY, "is what the relay beside the coordinator is called"),
  url: z.url({ protocol: /^https$/ }).max(256),
  /** Its Noise key: proves it to devices. */
  relayKey: key,
  /** 0: it answers no STUN. */
  stunPort: z.number().int().min(0).max(65_535).default(3_478),
  /** A second port where it answers STUN. */
  otherStunPort: z.number().int().min(1).max(65_535).optional(),
  /** Pins who confirms revocations; without it, whoever has the address may. */
  tlsFingerprint: z
    .string()
    .regex(/^(?:[0-9A-F]{2}:){31}[0-9A-F]{2}$/, "must be 32 hex pairs with colons")
    .optional(),
});
export type RemoteRelay = z.infer<typeof remoteRelay>;

/** Where the coordinator keeps what lasts. */
export const storeConfig = z.discriminatedUnion("kind", [
  /** A file beside its keys. */
  z.strictObject({ kind: z.literal("sqlite") }),
  /** A database that several coordinators behind one name may share, with their keys in it. */
  z.strictObject({
    kind: z.literal("postgres"),
    /** A name, an address, or the folder of a Unix socket. */
    host: z.string().min(1).max(255),
    port: z.number().int().min(1).max(65_535).default(5_432),
    database: z.string().min(1).max(63).default("exitnode"),
    user: z.string().min(1).max(63).default("exitnode"),
    /** A file with the password alone, which none but the coordinator's user should read. */
    passwordFile: z.string().startsWith("/").optional(),
    /** off: for this machine and networks that nobody else hears. verify: the certificate must be the host's. */
    tls: z.enum(["verify", "off"]).default("verify"),
    /** PEM of who may have signed the server's certificate, instead of the public ones. */
    caFile: z.string().startsWith("/").optional(),
  }),
]);
export type StoreConfig = z.infer<typeof storeConfig>;

/** /etc/exitnode/coordinator.yaml. */
export const coordinatorConfig = z.strictObject({
  /** Where it listens; 443 needs CAP_NET_BIND_SERVICE. */
  listen: z.strictObject({ address: z.string().default("::"), port: z.number().int().min(1).max(65_535).default(443) }),
  /** How devices reach it from outside: goes into join keys, in this order. */
  urls: z
    .array(z.url({ protocol: /^https$/ }))
    .min(1)
    .max(8),
  /** Tunnel addresses are taken from this IPv4 range; the IPv6 ULA /48 is made at the store's birth. */
  ipv4: cidr.default("100.64.0.0/10" as never),
  mtu: z.number().int().min(1280).max(9000).default(1280),
  /** Told to the devices: services that answer a GET with the caller's address in plain text. */
  whoami: z.array(z.url()).max(8).default([]),
  /** Lower-case hex SHA-256 of the admin token (32 random bytes, base64url). */
  adminTokenSha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** The relay beside the coordinator, on its port, and STUN over UDP on two ports; 0 answers none. */
  relay: z
    .strictObject({
      enabled: z.boolean().default(true),
      stunPort: z.number().int().min(0).max(65_535).default(3_478),
      /** Without it: otherStunPortBeside(stunPort). */
      otherStunPort: z.number().int().min(0).max(65_535).optional(),
    })
    .prefault({}),
  /** Relays on other machines, besides those that an administrator added while it ran. */
  relays: z.array(remoteRelay).max(REMOTE_RELAYS_MAX).default([]),
  store: storeConfig.default({ kind: "sqlite" }),
  /** How people sign in. */
  identity: identityConfig.optional(),
  /** Who may say by X-Forwarded-For whom they speak for: the reverse proxy before us, if there is one. */
  trustedProxies: z.array(cidr).max(16).optional(),
  /** /metrics without a token. */
  openMetrics: z.boolean().optional(),
  /** Webhooks may go to loopback and link-local addresses too. */
  webhooksToThisMachine: z.boolean().optional(),
});
export type CoordinatorConfig = z.infer<typeof coordinatorConfig>;

/** Below EXITNODE_VAR (/var/lib/exitnode-coordinator in a container) and EXITNODE_RUN. */
export const COORDINATOR_FILES = {
  config: "coordinator.yaml", // etc; written by whoever installs
  ownConfig: "coordinator.local.yaml", // etc; written by an administrator: its sections take those of the other's place
  store: "coordinator.db", // var
  noiseKey: "noise.key", // var, mode 0600
  admissionKey: "admission.key", // var, mode 0600: Ed25519, signs what relays believe
  relayKey: "relay.key", // var, mode 0600: the relay's beside
  tlsKey: "tls.key", // var, mode 0600
  tlsCertificate: "tls.crt", // var
  adminSocket: "admin.sock", // run
} as const;
