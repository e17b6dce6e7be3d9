import * as z from "zod";
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
});
export type CoordinatorConfig = z.infer<typeof coordinatorConfig>;

/** Below EXITNODE_VAR (/var/lib/exitnode-coordinator in a container) and EXITNODE_RUN. */
export const COORDINATOR_FILES = {
  config: "coordinator.yaml", // etc
  store: "coordinator.db", // var
  noiseKey: "noise.key", // var, mode 0600
  admissionKey: "admission.key", // var, mode 0600: Ed25519, signs what relays believe
  relayKey: "relay.key", // var, mode 0600: the relay's beside
  tlsKey: "tls.key", // var, mode 0600
  tlsCertificate: "tls.crt", // var
  adminSocket: "admin.sock", // run
} as const;
