import type { AgentStatus } from "../wire/agentsocket.js";

/** How look-ups go now, a line for each thing to know; none where the agent leaves them alone. */
export function describeLookups({ dns, exit, name }: Pick<AgentStatus, "dns" | "exit" | "name">): string[] {
  if (dns === undefined) return [];
  const { domain, choice, servers, way, note } = dns;
  const asked = servers.length === 0 ? "nobody" : servers.join(", ");
  const mine = exit === undefined ? "" : ` (not through ${exit.name}: this network sees what is looked up)`;
  const where =
    way === "direct"
      ? `ask ${asked} directly${mine}`
      : choice === "exit"
        ? `ask ${exit?.name ?? "the exit"}'s resolver: ${asked}`
        : `ask this device's own resolvers through ${exit?.name ?? "the exit"}: ${asked}`;
  return [
    where,
    ...(domain === undefined ? [] : [`devices are <device>.${domain}: this one is ${name}.${domain}`]),
    ...(note === undefined ? [] : [note]),
  ];
}
