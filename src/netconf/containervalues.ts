import * as z from "zod";
import { tryCidr, tryIp } from "../kit/ip.js";
import { tryKey } from "../kit/key.js";

/**
 * What the files of a container are made from. Handlebars knows none of the languages it writes (nftables, YAML,
 * unit files), so nothing that could end a line, a string or a list may pass here.
 */

/** Linux: at most 15 bytes (IFNAMSIZ less the zero). */
const interfaceName = z.string().regex(/^[a-z][a-z0-9._-]{0,14}$/, "must be an interface name");
const port = z.number().int().min(1).max(65_535);
const name = z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, "must be 1 to 63 of a-z, 0-9 and -");
/** RFC 3986 without the characters that mean something to YAML, shells or units: quotes, $, #, % stay out. */
const url = z
  .string()
  .max(2_048)
  .regex(/^https?:\/\/[A-Za-z0-9.:[\]_~/?&=+,@-]+$/, "must be an http or https URL of plain characters");
const publicKey = z.string().refine((text) => tryKey(text) !== undefined, "must be a 32-byte base64 key");

const cidr = z.string().transform((text, context) => tryCidr(text) ?? refuse(context, "a prefix"));
const ip = z.string().transform((text, context) => tryIp(text) ?? refuse(context, "an IP address"));
const cidrOf = (family: 4 | 6) =>
  cidr.refine((prefix) => prefix.includes(":") === (family === 6), `must be an IPv${family} prefix`);

/** The lists below become elements of nftables sets. */
const CONTAINER_LIST_MAX = 64;

/** A home's own address ranges; carrier-grade NAT (RFC 6598) is left out: there the neighbours are strangers. */
const HOME_RANGES = [
  "10.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "fc00::/7",
  "fe80::/10",
];

const agent = z.strictObject({
  name,
  urls: z.array(url).min(1).max(8),
  publicKey,
  dataPlane: z.enum(["auto", "kernel", "userspace"]).default("auto"),
  forwardedPort: port.optional(),
  whoami: z.array(url).max(8).default([]),
});

const coordinator = z
  .strictObject({
    port: port.default(443),
    stunPort: port.default(3_478),
    otherStunPort: port.default(3_479),
    urls: z.array(url).min(1).max(8),
    mtu: z.number().int().min(1_280).max(9_000).default(1_280),
    /** Told to the devices. */
    whoami: z.array(url).max(8).default([]),
    adminTokenSha256: z.string().regex(/^[0-9a-f]{64}$/, "must be 64 lower-case hex digits"),
  })
  .refine(({ stunPort, otherStunPort }) => stunPort !== otherStunPort, "otherStunPort must be another than stunPort");

export const containerValues = z.strictObject({
  /** All that the machine has. */
  memoryMiB: z.number().int().min(1).default(512),
  /** An agent has its share of it. */
  agentBeside: z.boolean().default(true),
  /** The interface towards the LAN: Proxmox calls a container's first one eth0. */
  uplink: interfaceName.default("eth0"),
  tunnel: interfaceName.default("exn0"),
  /** WireGuard's port, and the one the probe socket has on the machine itself. */
  listenPort: port.default(51_820),
  probePort: port.default(51_821),
  tunnelIpv4: cidrOf(4).prefault("100.64.0.0/10"),
  /** The coordinator's /48 where it is known; any ULA until then. */
  tunnelIpv6: cidrOf(6).prefault("fc00::/7"),
  /** Private ranges that tunnel users may reach nevertheless. */
  allowLan: z.array(cidr).max(CONTAINER_LIST_MAX).default([]),
  /** Ranges kept from tunnel users besides the private ones: a LAN or a Proxmox host with public addresses. */
  protect: z.array(cidr).max(CONTAINER_LIST_MAX).default([]),
  /** The container's resolvers, which clients ask through the tunnel although they may be in the LAN. */
  resolvers: z.array(ip).max(8).default([]),
  /** IPv6 routers with a global address, of a static configuration; routers learnt by RA are link-local. */
  gateways6: z
    .array(ip.refine((address) => address.includes(":"), "must be an IPv6 address"))
    .max(4)
    .default([]),
  sshFrom: z.array(cidr).max(CONTAINER_LIST_MAX).prefault(HOME_RANGES),
  agent: agent.optional(),
  coordinator: coordinator.optional(),
});
export type CheckedContainerValues = z.output<typeof containerValues>;

function refuse(context: z.RefinementCtx, expected: string): never {
  context.addIssue({ code: "custom", message: `expected ${expected}` });
  return z.NEVER;
}
