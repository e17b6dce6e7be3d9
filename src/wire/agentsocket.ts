import * as z from "zod";
import { deviceName, ip, role } from "./schema.js";

/**
 * The agent's local socket: one JSON request a line, one JSON answer a line, in turn.
 * Connecting needs the socket's mode (0660, the agent's group); root always may.
 */
export const agentRequest = z.discriminatedUnion("do", [
  z.object({ do: z.literal("status") }),
  /** Send everything through this exit node; null: through none. */
  z.object({ do: z.literal("use"), exit: deviceName.nullable() }),
  /** The public addresses of this machine past the tunnel, as the whoami services see the agent itself. */
  z.object({ do: z.literal("whoami") }),
  /** What stands between this device and the others: asks STUN, the relays, the router and whoami anew. */
  z.object({ do: z.literal("netcheck") }),
  /** One round trip to a peer, on the way its traffic goes now; asking begins the search for a better one. */
  z.object({ do: z.literal("ping"), peer: deviceName }),
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
  /** The exit node in use. */
  exit: z
    .object({ name: z.string(), ipv4: z.boolean(), ipv6: z.boolean(), state: z.enum(["active", "waiting", "gone"]) })
    .optional(),
  peers: z.array(
    z.object({
      name: z.string(),
      role,
      addresses: z.array(ip),
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

export const agentAnswer = z.union([
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({
    ok: z.literal(false),
    error: z.object({ code: z.string(), message: z.string(), advice: z.string().optional() }),
  }),
]);
