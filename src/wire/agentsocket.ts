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
  /** Leaves the machine's routing as it was before `up`, then exits. */
  z.object({ do: z.literal("shutdown") }),
]);
export type AgentRequest = z.infer<typeof agentRequest>;

export const pathKind = z.enum(["searching", "relayed", "direct"]);

export const agentStatus = z.object({
  version: z.string(),
  name: z.string(),
  role,
  addresses: z.array(ip),
  dataPlane: z.enum(["kernel", "userspace"]),
  interface: z.string(),
  listenPort: z.number(),
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
      endpoint: z.string().optional(),
      lastHandshakeAgeMs: z.number().optional(),
      receivedBytes: z.number(),
      sentBytes: z.number(),
    }),
  ),
  warnings: z.array(z.string()),
});
export type AgentStatus = z.infer<typeof agentStatus>;

export const whoamiAnswer = z.object({ ipv4: ip.optional(), ipv6: ip.optional() });
export type WhoamiAnswer = z.infer<typeof whoamiAnswer>;

export const agentAnswer = z.union([
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({
    ok: z.literal(false),
    error: z.object({ code: z.string(), message: z.string(), advice: z.string().optional() }),
  }),
]);
