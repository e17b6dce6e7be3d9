import type { AgentStatus, PingAnswer } from "../wire/agentsocket.js";
import { fold } from "./table.js";

/** The way to a peer in words, the same ones in every command. */

type Way = Pick<PingAnswer, "path" | "endpoint" | "relay">;

/** "direct to 203.0.113.77:51820", "relayed through vps", "looking for a way, through vps meanwhile". */
export function describeWay({ path, endpoint, relay }: Way): string {
  switch (path) {
    case "direct":
      return endpoint === undefined ? "direct" : `direct to ${endpoint}`;
    case "relayed":
      return relay === undefined ? "not reached: no relay takes its datagrams" : `relayed through ${relay}`;
    case "searching":
      return relay === undefined ? "looking for a way" : `looking for a direct way, through ${relay} meanwhile`;
  }
}

/** The reason for the relay and what would help, in lines of that width; none for a path that is not relayed. */
export function explainWay({ why }: Pick<PingAnswer, "why">, width: number): string[] {
  return why === undefined ? [] : [...fold(why.words, width), ...fold(`→ ${why.help}`, width, "  ")];
}

export const peerNamed = (status: AgentStatus, name: string): AgentStatus["peers"][number] | undefined =>
  status.peers.find((peer) => peer.name === name);
