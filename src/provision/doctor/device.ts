import { asFailure } from "../../kit/failure.js";
import type { Millis } from "../../kit/time.js";
import type { AgentStatus, NetcheckAnswer, WhoamiAnswer } from "../../wire/agentsocket.js";
import { SKEW_MAX_MS } from "../preflight/clock.js";
import { type Finding, fine, stops, warns } from "../preflight/finding.js";
import { agentFindings, lineFindings } from "./agent.js";
import type { Answer } from "./deadline.js";
import { type DeviceNet, leakFindings, networkFindings, rivalFindings } from "./devicenet.js";

/** This machine as a device, as it was found. */
export type DeviceFacts = {
  /** Undefined inside: no agent runs. */
  readonly status: Answer<AgentStatus | undefined>;
  readonly netcheck: Answer<NetcheckAnswer> | undefined;
  readonly net: DeviceNet | undefined;
  /** How far this machine's clock is behind a server's. */
  readonly behindMs: Millis | undefined;
  /** The public addresses: as everything here is seen, and as the agent is, past the tunnel. */
  readonly seen: { readonly now: WhoamiAnswer; readonly past: WhoamiAnswer } | undefined;
  /** A name looked up as any program would. */
  readonly lookup: Answer<unknown> | undefined;
  /** Where the coordinator is, and what came of dialling it. */
  readonly doors: readonly { readonly url: string; readonly trouble: string | undefined }[];
  readonly tunnel: TunnelTrial | undefined;
};

/** Two packets to the exit node through the tunnel: a small one, and one as large as the tunnel takes. */
export type TunnelTrial = { readonly small: boolean; readonly large: boolean; readonly bytes: number };

/** What is wrong with this machine as a device, the likeliest cause first. */
export function deviceFindings(facts: DeviceFacts): Finding[] {
  const { status, net } = facts;
  const here = [...(net === undefined ? [] : networkFindings(net)), ...portalFindings(facts), ...clockFindings(facts)];
  if ("failure" in status) {
    const { code, message, advice } = asFailure(status.failure);
    return [stops("agent", code, message, advice === undefined ? {} : { advice }), ...here];
  }
  const agent = status.value;
  if (agent === undefined)
    return [
      stops("agent", "agent-not-running", "this machine joined a network, and its agent does not run", {
        advice: "exitnode up",
      }),
      ...here,
    ];
  return [
    fine("agent", `version ${agent.version}`),
    ...here,
    ...(net === undefined ? [] : rivalFindings(net)),
    ...coordinatorFindings(agent, facts),
    ...relayFindings(agent, facts),
    ...exitFindings(agent, facts),
    ...agentFindings(agent),
  ];
}

function portalFindings({ netcheck }: DeviceFacts): Finding[] {
  if (netcheck === undefined || "failure" in netcheck) return [];
  if (netcheck.value.captivePortal !== true) return [fine("captive portal", "none seen")];
  return [
    stops("captive portal", "captive-portal", "this network answers in the place of others: it wants a login first", {
      why: "until then nothing gets out, and while an exit is used no browser reaches the page",
      advice: "exitnode use none    (then log in with a browser at http://example.com, and use the exit again)",
    }),
  ];
}

function clockFindings({ behindMs }: DeviceFacts): Finding[] {
  if (behindMs === undefined) return [];
  if (Math.abs(behindMs) <= SKEW_MAX_MS) return [fine("clock", "right")];
  const seconds = Math.round(Math.abs(behindMs) / 1_000);
  return [
    stops("clock", "clock-wrong", `this machine's clock is ${seconds} s ${behindMs > 0 ? "behind" : "ahead"}`, {
      why: "certificates and join keys are good for a time, and handshakes of before are refused",
      advice: "timedatectl set-ntp true",
    }),
  ];
}

function coordinatorFindings(agent: AgentStatus, { doors }: DeviceFacts): Finding[] {
  const line = lineFindings(agent);
  if (agent.coordinator.connected || agent.coordinator.refusal !== undefined) return line;
  const open = doors.filter(({ trouble }) => trouble === undefined);
  if (doors.length === 0) return line;
  const told = doors.map(({ url, trouble }) => `${url}: ${trouble ?? "answers"}`).join("; ");
  const why =
    open.length === 0
      ? `from here, ${told}`
      : `${open[0]?.url} answers: somebody in between breaks the connection, or it is another coordinator by now`;
  return line.map((finding) => ({ ...finding, why }));
}

function relayFindings(agent: AgentStatus, { netcheck }: DeviceFacts): Finding[] {
  if (netcheck === undefined) return [];
  if ("failure" in netcheck) return [warns("netcheck", netcheck.failure.message, { advice: "exitnode netcheck" })];
  const { udp, relays } = netcheck.value;
  const failing = relays.filter(({ state }) => state === "failing");
  const needed = agent.peers.some(({ path }) => path === "relayed");
  return [
    ...(udp === false
      ? [
          warns("UDP", "this network blocks UDP: everything goes through a relay, over TCP", {
            why: "it works, and slower than a direct path",
            advice: "nothing here can change it; another network, or the phone's hotspot, would",
          }),
        ]
      : []),
    ...failing.map(({ name, url, reason }) => {
      const all = failing.length === relays.length;
      const what = `the relay ${name} (${url}) is not reached${reason === undefined ? "" : `: ${reason}`}`;
      const why = all
        ? "it is the only way where NATs allow no direct path, and how two devices find one"
        : "the other relays take its place";
      const advice = "exitnode coordinator status    (where you administer: does its machine run, is the port open?)";
      return all && needed
        ? stops("relay", "relay-unreachable", what, { why, advice })
        : warns("relay", what, { why, advice });
    }),
    ...(failing.length === 0 && relays.length > 0 ? [fine("relays", "reached")] : []),
  ];
}

function exitFindings(agent: AgentStatus, facts: DeviceFacts): Finding[] {
  const { exit } = agent;
  if (exit === undefined) return lookupFindings(facts, "exitnode status");
  const peer = agent.peers.find(({ name }) => name === exit.name);
  if (exit.state === "gone" || peer === undefined)
    return [
      stops("exit node", "exit-gone", `the exit node in use, "${exit.name}", is not in the network any more`, {
        why: "until you choose, nothing leaves this machine, rather than beside the exit",
        advice: "exitnode use none    (or another one: exitnode status)",
      }),
    ];
  return [
    ...pathFindings(exit.name, peer),
    ...(facts.net === undefined ? [] : leakFindings(facts.net, { device: agent.interface, exit: exit.name })),
    ...tunnelFindings(exit.name, facts.tunnel),
    ...lookupFindings(facts, `exitnode logs ${exit.name}`),
    ...addressFindings(exit, facts),
  ];
}

function pathFindings(name: string, peer: AgentStatus["peers"][number]): Finding[] {
  const label = "path";
  if (peer.path === "direct") return [fine(label, `direct to ${peer.endpoint ?? name}`)];
  const why = peer.why === undefined ? {} : { why: peer.why.words };
  const help = peer.why?.help;
  if (peer.path === "relayed" && peer.relay !== undefined)
    return [
      warns(label, `${name} is reached through the relay ${peer.relay}, and not directly`, {
        ...why,
        advice: help ?? `exitnode ping ${name}`,
      }),
    ];
  if (!peer.online)
    return [
      stops(label, "exit-offline", `${name} is offline, so nothing leaves this machine`, {
        advice: `exitnode doctor --host HOST    (where you administer)\nexitnode use none    (leave by this network meanwhile)`,
      }),
    ];
  return [
    stops(label, "exit-unreached", `no way to ${name} is found`, {
      ...why,
      advice: help ?? `exitnode ping ${name}\nexitnode netcheck`,
    }),
  ];
}

function tunnelFindings(name: string, trial: TunnelTrial | undefined): Finding[] {
  if (trial === undefined) return [];
  const { small, large, bytes } = trial;
  if (small && large) return [fine("tunnel", `packets of ${bytes} bytes pass`)];
  if (!small)
    return [warns("tunnel", `${name} does not answer a ping through the tunnel`, { advice: `exitnode ping ${name}` })];
  return [
    stops("MTU", "packets-too-large", `small packets pass the tunnel, those of ${bytes} bytes do not`, {
      why: "somewhere on the way the path is narrower, and nobody says so: pages hang half loaded",
      advice: `ip link set dev INTERFACE mtu 1400    (by which this machine is connected; then look again)\nexitnode ping ${name}`,
    }),
  ];
}

function lookupFindings({ lookup }: DeviceFacts, advice: string): Finding[] {
  if (lookup === undefined) return [];
  if ("value" in lookup) return [fine("DNS", "names are looked up")];
  return [stops("DNS", "dns-fails", `names are not looked up: ${lookup.failure.message}`, { advice })];
}

function addressFindings(exit: NonNullable<AgentStatus["exit"]>, { seen }: DeviceFacts): Finding[] {
  if (seen === undefined) return [];
  const { now, past } = seen;
  if (now.ipv4 === undefined && now.ipv6 === undefined)
    return [
      stops("Internet", "exit-leads-nowhere", `nobody in the Internet is reached through ${exit.name}`, {
        why: past.ipv4 === undefined ? "nor is anybody beside it" : "beside it somebody is",
        advice: `exitnode trace\nexitnode doctor --host HOST    (where you administer)`,
      }),
    ];
  // At home, behind the exit node's own router, both are the same and right.
  if (exit.ipv6 && now.ipv6 === undefined)
    return [
      warns("IPv6", `${exit.name} offers IPv6, and nobody is reached by it`, {
        why: "the container lost its IPv6, or its provider does",
        advice: "exitnode doctor --host HOST    (where you administer)",
      }),
    ];
  return [fine("Internet", `seen as ${now.ipv4 ?? now.ipv6}`)];
}
