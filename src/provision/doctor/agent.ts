import { formatDuration, HOUR, type Millis } from "../../kit/time.js";
import type { AgentStatus } from "../../wire/agentsocket.js";
import { type Finding, fine, stops, warns } from "../preflight/finding.js";

/** A map so old misses devices that joined and left since. */
export const MAP_AGE_MAX_MS: Millis = 24 * HOUR;

/** What an agent says of its line to the coordinator; in a container or on this machine. */
export function lineFindings({ coordinator, role }: AgentStatus): Finding[] {
  const name = "coordinator";
  const { connected, reason, refusal, mapAgeMs, mapSeq, url } = coordinator;
  if (connected) return [fine(name, url === undefined ? "connected" : `connected to ${url}`)];
  if (refusal !== undefined) return [refused(name, refusal, reason, role)];
  const why = reason === undefined ? "" : `: ${reason}`;
  if (mapSeq === undefined)
    return [
      stops(name, "coordinator-unreachable", `the agent has not reached its coordinator yet${why}`, {
        why: "without a map there is no network",
        advice: "exitnode list    (where you administer: does the container that it runs in run?)",
      }),
    ];
  const age = mapAgeMs === undefined ? "an unknown time" : formatDuration(mapAgeMs);
  const old = mapAgeMs !== undefined && mapAgeMs > MAP_AGE_MAX_MS;
  return [
    warns(name, `the agent does not reach its coordinator${why}; its map is ${age} old`, {
      why: old
        ? "devices that joined or were revoked since are not known"
        : "what is connected stays so; nobody joins and nothing changes meanwhile",
      advice: "exitnode list    (where you administer: does the container that it runs in run?)",
    }),
  ];
}

/** A refusal will not be tried again. */
function refused(name: string, refusal: string, reason: string | undefined, role: AgentStatus["role"]): Finding {
  const exitNode = role === "exit-node";
  if (refusal === "lock-differs")
    return stops(name, refusal, `this device has not joined: ${reason ?? refusal}`, {
      why: "either the key is older than the device lock, or somebody else has the coordinator",
      advice: "exitnode lock status    (on a trusted device: is it the list that the join key names?)",
    });
  return stops(name, refusal, `the coordinator refuses this device: ${reason ?? refusal}`, {
    why: "join keys are good once and for minutes, and a revoked device stays out",
    advice: exitNode
      ? "exitnode plan    (create makes it a new key)"
      : "where you administer: exitnode key create\nhere: exitnode down --forget && exitnode up --join KEY",
  });
}

/** What the agent itself warns of, whom the device lock keeps out, and datagrams that did not leave. */
export function agentFindings(status: AgentStatus): Finding[] {
  const { warnings, unsent } = status;
  const { looped = 0, refused: unsentDatagrams = 0 } = unsent ?? {};
  return [
    ...lockFindings(status),
    ...(looped === 0
      ? []
      : [
          stops("routes", "routes-looped", `${looped} datagrams of the tunnel were routed back into it`, {
            why: "another program's routes or rules stand before ours",
            advice: "ip rule; ip -6 rule",
          }),
        ]),
    ...(unsentDatagrams < UNSENT_MIN
      ? []
      : [
          warns("sending", `${unsentDatagrams} datagrams did not leave: no route, a full queue, or a firewall here`, {
            advice: "nft list ruleset; ip route",
          }),
        ]),
    ...warnings.map((text) => warns("agent", text, {})),
  ];
}

function lockFindings({ name, waiting, lock }: AgentStatus): Finding[] {
  if (lock === undefined) return [];
  const out = lock.kept.map((peer) => peer.name);
  return [
    ...(waiting !== "lock"
      ? []
      : [
          stops("device lock", "lock-unsigned", `no trusted device has signed "${name}"`, {
            why: `the others do not let it in; its fingerprint is ${lock.fingerprint}`,
            advice: `exitnode lock sign ${name}    (on a trusted device)`,
          }),
        ]),
    ...(out[0] === undefined
      ? []
      : [
          warns("device lock", `not let in: ${out.slice(0, KEPT_NAMED_MAX).join(", ")}`, {
            why: "no trusted device has signed for the keys that the coordinator shows",
            advice: "exitnode lock status",
          }),
        ]),
  ];
}

const KEPT_NAMED_MAX = 5;

/** A handful is lost whenever a network changes. */
const UNSENT_MIN = 1_000;
