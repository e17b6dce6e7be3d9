import { Failure } from "../kit/failure.js";
import { formatDuration } from "../kit/time.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { tryAgentStatus } from "./agentclient.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { describeExits } from "./exitwords.js";
import { describeLookups } from "./lookupway.js";
import { ownerCell } from "./owner.js";
import { describeWay, explainWay } from "./peerway.js";
import { formatBytes, formatRoundTrip, labelled, renderTable, SCREEN_COLUMNS } from "./table.js";

/** This device when an agent runs here; else, or with a name, the exit nodes as the coordinator and the hosts see them. */
export async function status(call: Call): Promise<Outcome> {
  const { args, parts } = call;
  if (args[0] === undefined) {
    const own = await tryAgentStatus(parts.paths);
    if (own !== undefined) return { value: own, text: describeDevice(own) };
    const config = await readConfig(parts.files, parts.paths.config);
    if (config.coordinator === undefined && Object.keys(config.hosts).length === 0)
      throw new Failure("agent-not-running", "no agent runs on this machine, and no host is known", {
        advice: "exitnode up --join KEY    (join a network)\nexitnode setup            (make an exit node)",
      });
  }
  const { exitNodeStatus } = await import("./exitnodestatus.js");
  return exitNodeStatus(call, args[0]);
}

export function describeDevice(own: AgentStatus): string {
  const line = own.coordinator.connected
    ? `connected to ${own.coordinator.url}`
    : `not connected (${own.coordinator.reason ?? "trying"})${own.coordinator.mapSeq === undefined ? "" : "; working from the map it last sent"}`;
  const exit =
    own.exit === undefined
      ? "none: traffic leaves by this network"
      : `${own.exit.name} (${own.exit.state}; ${own.exit.ipv6 ? "IPv4 and IPv6" : "IPv4 only"})`;
  const head = renderTable([
    ["device", `${own.name} (${own.role}, ${own.dataPlane} WireGuard, ${own.interface})`],
    ...(own.mtu === undefined ? [] : [["tunnel", `packets of up to ${own.mtu} bytes`]]),
    ["addresses", own.addresses.join(", ") || "none yet"],
    ...(ownerCell(own) === "" ? [] : [["owner", ownerCell(own)]]),
    ...labelled("coordinator", [line]),
    ...(own.homeRelay === undefined ? [] : [["relay", own.homeRelay]]),
    ...(own.nat === undefined ? [] : labelled("network", [own.nat.is, own.nat.means])),
    ...(own.waiting === undefined ? [] : labelled("waits", explainWaiting(own))),
    ...labelled("exit node", [exit, ...(own.exit === undefined ? [] : describeExits(own.exit)), ...describeLost(own)]),
    ...labelled("look-ups", describeLookups(own)),
    ...labelled("not sent", describeUnsent(own.unsent)),
    ...labelled("kept out", describeKept(own.lock)),
    ...own.warnings.map((warning) => ["warning", warning]),
  ]);
  if (own.peers.length === 0) return head;
  const owned = own.peers.some((peer) => ownerCell(peer) !== "");
  const rows = own.peers.map((peer) => [
    peer.name,
    peer.app === true ? "WireGuard app" : peer.role,
    ...(owned ? [ownerCell(peer)] : []),
    peer.addresses[0] ?? "",
    pathCell(peer),
    peer.lastHandshakeAgeMs === undefined ? "never" : `${formatDuration(peer.lastHandshakeAgeMs)} ago`,
    formatBytes(peer.receivedBytes),
    formatBytes(peer.sentBytes),
  ]);
  const table = renderTable([
    ["PEER", "ROLE", ...(owned ? ["OWNER"] : []), "ADDRESS", "PATH", "HANDSHAKE", "IN", "OUT"],
    ...rows,
  ]);
  const ways = own.peers.flatMap(explainPeer);
  return [head, table, ...(ways.length === 0 ? [] : [renderTable(ways)])].join("\n\n");
}

/** Of several exits each is spoken of already. */
function describeLost({ exit, peers }: AgentStatus): string[] {
  const silentMs = peers.find(({ name }) => name === exit?.name)?.silentMs;
  if (silentMs === undefined || exit?.exits !== undefined) return [];
  return [`last heard ${formatDuration(silentMs)} ago; until it answers, nothing leaves this machine`];
}

/** Why it has no peers, and what ends that. */
export function explainWaiting({
  waiting,
  name,
  role,
  user,
  lock,
}: Pick<AgentStatus, "waiting" | "name" | "role" | "user" | "lock">): string[] {
  switch (waiting) {
    case undefined:
      return [];
    case "approval":
      return ["for approval; where the network is administered:", `exitnode device approve ${name}`];
    case "key-expired":
      if (role === "exit-node") return ["for a new key, as its own has expired; it makes itself one"];
      return user === undefined
        ? ["for a join key, as its own key has expired; here:", "exitnode up --join KEY"]
        : [`for ${user} to sign in again, as its key has expired; here:`, "exitnode up"];
    case "lock":
      return [
        `for a trusted device's signature; its fingerprint is ${lock?.fingerprint ?? "unknown"}. On a trusted device:`,
        `exitnode lock sign ${name}`,
      ];
  }
}

/** Peers named of those that the lock keeps out; `--json` names all. */
const KEPT_SHOWN_MAX = 5;
const KEPT_WHY = {
  unsigned: "not signed by a trusted device",
  "shut-out": "a trusted device has shut it out",
  "no-lock-key": "it has no lock key: its agent is an older one",
  "other-keys": "the coordinator shows other keys for it than it has signed itself",
} as const;

function describeKept(lock: AgentStatus["lock"]): string[] {
  const kept = lock?.kept ?? [];
  const more = kept.length - KEPT_SHOWN_MAX;
  const unsigned = kept.find(({ why }) => why === "unsigned");
  return [
    ...kept.slice(0, KEPT_SHOWN_MAX).map(({ name, why }) => `${name}: ${KEPT_WHY[why]}`),
    ...(more > 0 ? [`and ${more} more`] : []),
    ...(unsigned === undefined ? [] : [`exitnode lock sign ${unsigned.name}    (on a trusted device)`]),
  ];
}

/** What the data plane could not send, a line for each reason that there was. */
function describeUnsent({ looped, refused }: NonNullable<AgentStatus["unsent"]> = { looped: 0, refused: 0 }): string[] {
  return [
    ...(refused === 0 ? [] : [`${refused} datagrams, which this machine refused: no route, full queue, firewall`]),
    ...(looped === 0 ? [] : [`${looped} datagrams of the tunnel's own, which this machine's routes led back into it`]),
  ];
}

type Peer = AgentStatus["peers"][number];

/** A path that works counts more than what the coordinator last heard of the peer. */
function pathCell(peer: Peer): string {
  if (peer.path === "direct")
    return peer.roundTripMs === undefined ? "direct" : `direct, ${formatRoundTrip(peer.roundTripMs)}`;
  if (peer.app === true) return "idle";
  if (!peer.online) return "offline";
  if (peer.path === "relayed") return peer.relay === undefined ? "not reached" : `through ${peer.relay}`;
  return isIdle(peer) ? "idle" : "searching";
}

/** Nobody has had anything to say: no way was looked for. */
const isIdle = (peer: Peer): boolean => peer.path === "searching" && peer.sentBytes === 0 && peer.receivedBytes === 0;

/** What the table has no room for: where the path leads, and why it is relayed. */
function explainPeer(peer: Peer): string[][] {
  const silence = peer.silentMs === undefined ? [] : [`no answer: last heard ${formatDuration(peer.silentMs)} ago`];
  const width = SCREEN_COLUMNS - 2 - peer.name.length;
  const isQuiet = peer.path !== "direct" && (!peer.online || isIdle(peer));
  const lines = isQuiet ? silence : [describeWay(peer), ...silence, ...explainWay(peer, width)];
  return lines.map((text, i) => [i === 0 ? peer.name : "", text]);
}
