import * as z from "zod";
import { familyOf } from "../kit/ip.js";
import { cidr, deviceName, key, role } from "./schema.js";

/** /etc/exitnode/agent.yaml: what a device's agent is told by whoever installed it. */
export const agentConfig = z.strictObject({
  name: deviceName,
  role,
  coordinator: z.strictObject({
    /** Tried in turn; https://host[:port]. The channel inside authenticates by key, so the certificate may be any. */
    urls: z
      .array(z.url({ protocol: /^https$/ }))
      .min(1)
      .max(8),
    publicKey: key,
  }),
  interface: z
    .string()
    .regex(/^[a-z][a-z0-9]{0,14}$/)
    .default("exn0"),
  listenPort: z.number().int().min(0).max(65_535).default(51_820),
  dataPlane: z.enum(["auto", "kernel", "userspace"]).default("auto"),
  /** The port of this device that a router forwards from its public address; then that address is a candidate. */
  forwardedPort: z.number().int().min(1).max(65_535).optional(),
  /** Whether the home router is asked for a port (PCP, NAT-PMP, UPnP); it is, unless this says no. */
  portMapping: z.boolean().optional(),
  /** Networks behind this device that others may be let into; the coordinator's administrator decides. */
  advertise: z
    .array(
      cidr.refine((network) => familyOf(network) === 4 && !network.endsWith("/0"), "must be IPv4, and not all of it"),
    )
    .max(16)
    .optional(),
  /** Whether those networks see this device's address; they do, unless this says no and they have a route to ours. */
  masquerade: z.boolean().optional(),
  /** Services that answer a GET with the caller's address in plain text; asked over IPv4 and IPv6. */
  whoami: z.array(z.url()).max(8).default([]),
});
export type AgentConfig = z.infer<typeof agentConfig>;

/** Where a device's files are, below the three roots that EXITNODE_ETC, EXITNODE_VAR and EXITNODE_RUN move. */
export const DEVICE_FILES = {
  config: "agent.yaml", // etc
  joinKey: "join.key", // var, removed once the device is in
  machineKey: "machine.key", // var, mode 0600: proves this machine to the coordinator
  wireguardKey: "wireguard.key", // var, mode 0600
  lockKey: "lock.key", // var, mode 0600: speaks for this device's keys where the network has a device lock
  lock: "lock.json", // var: the trusted devices, as this device has verified them
  map: "map.json", // var: the last network map
  choice: "choice.json", // var: the exit node in use
  socket: "agent.sock", // run: the local status socket
} as const;
