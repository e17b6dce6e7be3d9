import * as z from "zod";
import { cidr } from "./schema.js";

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
});
export type CoordinatorConfig = z.infer<typeof coordinatorConfig>;

/** Below EXITNODE_VAR (/var/lib/exitnode-coordinator in a container) and EXITNODE_RUN. */
export const COORDINATOR_FILES = {
  config: "coordinator.yaml", // etc
  store: "coordinator.db", // var
  noiseKey: "noise.key", // var, mode 0600
  tlsKey: "tls.key", // var, mode 0600
  tlsCertificate: "tls.crt", // var
  adminSocket: "admin.sock", // run
} as const;
