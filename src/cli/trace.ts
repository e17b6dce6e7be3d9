import { HOPS_MAX, type PlacedHop, parseTraceroute, placeHops } from "../agent/hops.js";
import { seenFrom } from "../agent/whoami.js";
import { tryEndpoint } from "../kit/endpoint.js";
import { asFailure, Failure } from "../kit/failure.js";
import { familyOf, type Ip } from "../kit/ip.js";
import { fetchText } from "../sys/fetchtext.js";
import { readNetInfo } from "../sys/netinfo.js";
import { lookUp } from "../sys/resolve.js";
import { findUser } from "../sys/users.js";
import type { PingAnswer, WhoamiAnswer } from "../wire/agentsocket.js";
import { askWhoami, tryAgentStatus } from "./agentclient.js";
import { AGENT_USER } from "./agentfiles.js";
import type { Call, Outcome, Parts } from "./command.js";
import { describeLeakTest, type LeakTest, leakTest } from "./leaktest.js";
import { describeWay, explainWay, peerNamed } from "./peerway.js";
import { fold, formatRoundTrip, renderTable, SCREEN_COLUMNS } from "./table.js";
import { whoamiUrls } from "./whoamiurls.js";

/** Where the traffic goes: what a person would otherwise piece together from traceroute, whoami and guesswork. */
export type Trace = {
  readonly target: string;
  readonly address: Ip;
  readonly exit: (Pick<PingAnswer, "path" | "endpoint" | "relay" | "why"> & { readonly name: string }) | null;
  readonly public: { readonly before: WhoamiAnswer; readonly now: WhoamiAnswer };
  /** From this machine to the exit node's public address, past the tunnel; empty without an exit. */
  readonly under: readonly PlacedHop[];
  readonly hops: readonly PlacedHop[];
  /** Whether look-ups leave beside the exit; null without an exit. */
  readonly lookups: LeakTest | null;
};

export async function trace(call: Call): Promise<Outcome> {
  const value = await traceTo(call);
  return { value: value.trace, text: describeTrace(value.trace, value.device) };
}

async function traceTo({ args, options, parts, signal }: Call): Promise<{ trace: Trace; device: string }> {
  if (options.ipv4 === true && options.ipv6 === true)
    throw new Failure("usage", "expected one of --ipv4 and --ipv6, got both");
  const urls = await whoamiUrls(parts);
  const target = args[0] ?? new URL(urls[0] ?? "http://example.com").hostname;
  const family = options.ipv4 === true ? 4 : options.ipv6 === true ? 6 : undefined;
  const address = await lookUp(target, family).catch((error: unknown) => {
    throw args[0] === undefined ? nowhere(error) : error;
  });
  const agent = await tryAgentStatus(parts.paths);
  const peer = agent?.exit === undefined ? undefined : peerNamed(agent, agent.exit.name);
  const [now, before] = await Promise.all([
    seenFrom(fetchText, urls),
    agent?.exit === undefined ? undefined : askWhoami(parts.paths),
  ]);
  const around = {
    networks: readNetInfo()
      .addresses.filter((one) => one.interface !== agent?.interface)
      .map(({ network }) => network),
    exitAddresses: peer?.addresses ?? [],
  };
  const seen = (answer: WhoamiAnswer): Ip[] => [answer.ipv4, answer.ipv6].filter((ip) => ip !== undefined);
  const [hops, under, lookups] = await Promise.all([
    route(parts, address, [], signal),
    underlay(parts, peer?.endpoint, signal),
    agent === undefined ? undefined : leakTest(parts, agent),
  ]);
  const trace: Trace = {
    target,
    address,
    exit:
      peer === undefined
        ? null
        : {
            ...{ name: peer.name, path: peer.path },
            ...(peer.endpoint === undefined ? {} : { endpoint: peer.endpoint }),
            ...(peer.relay === undefined ? {} : { relay: peer.relay }),
            ...(peer.why === undefined ? {} : { why: peer.why }),
          },
    public: { before: before ?? now, now },
    under: placeHops(under, { ...around, exitAddresses: [], publicAddresses: seen(before ?? now) }),
    hops: placeHops(hops, { ...around, publicAddresses: seen(now) }).map((hop) =>
      // Tunnel addresses have no name in anybody's DNS, but this one has a name here.
      hop.where === "tunnel" && peer !== undefined ? { ...hop, name: peer.name } : hop,
    ),
    lookups: lookups ?? null,
  };
  return { trace, device: agent?.interface ?? "" };
}

/** Nobody typed that name: what fails is the way out. */
function nowhere(error: unknown): unknown {
  const { code, message } = asFailure(error);
  if (code !== "name-unknown") return error;
  return new Failure("no-way-out", `nothing in the Internet is reached from here: ${message}`, {
    cause: error,
    advice: "exitnode doctor    (looks for the reason)",
  });
}

/** The way that WireGuard's own packets take: traced as the agent's user, whom the tunnel's routes leave alone. */
async function underlay(
  parts: Parts,
  endpoint: string | undefined,
  signal: AbortSignal,
): Promise<ReturnType<typeof parseTraceroute>> {
  const address = endpoint === undefined ? undefined : tryEndpoint(endpoint)?.address;
  const user = await findUser(parts.files, AGENT_USER);
  if (address === undefined || user === undefined || process.getuid?.() !== 0) return [];
  return route(parts, address, ["setpriv", `--reuid=${user.uid}`, `--regid=${user.gid}`, "--clear-groups"], signal);
}

async function route(
  parts: Parts,
  address: Ip,
  prefix: readonly string[],
  signal: AbortSignal,
): Promise<ReturnType<typeof parseTraceroute>> {
  const family = familyOf(address) === 6 ? "-6" : "-4";
  const command = ["traceroute", family, "-q", "1", "-w", "1", "-N", "6", "-m", String(HOPS_MAX), address];
  const ran = await parts.exec.run([...prefix, ...command], { signal, timeoutMs: 45_000 }).catch((cause: unknown) => {
    if (signal.aborted) throw new Failure("interrupted", `the way to ${address} was not followed to its end`);
    throw new Failure("traceroute-missing", "cannot run traceroute", { cause, advice: "apt install traceroute" });
  });
  if (ran.exitCode !== 0 && !/^traceroute to/.test(ran.stdout))
    throw new Failure(
      "trace-failed",
      `no way to ${address}: ${ran.stderr.trim().split("\n")[0] ?? "traceroute failed"}`,
      {
        advice: "exitnode status",
      },
    );
  return trimTail(parseTraceroute(ran.stdout));
}

/** Silence after the last answer says nothing about where the traffic goes. */
function trimTail(hops: ReturnType<typeof parseTraceroute>): ReturnType<typeof parseTraceroute> {
  const last = hops.findLastIndex((hop) => hop.address !== undefined);
  return hops.slice(0, last + 1);
}

function describeTrace(value: Trace, device: string): string {
  const { before, now } = value.public;
  const dash = "none";
  const heading =
    value.exit === null
      ? `traffic to ${value.target} leaves by this network`
      : `traffic to ${value.target} leaves through ${value.exit.name}, ${describeWay(value.exit)}`;
  const why = value.exit === null ? [] : explainWay(value.exit, SCREEN_COLUMNS - 2).map((line) => `  ${line}`);
  const addresses =
    value.exit === null
      ? [
          ["public address", ""],
          ["  IPv4", now.ipv4 ?? dash],
          ["  IPv6", now.ipv6 ?? dash],
        ]
      : [
          ["public address", "before", `through ${value.exit.name}`],
          ["  IPv4", before.ipv4 ?? dash, now.ipv4 ?? dash],
          ["  IPv6", before.ipv6 ?? dash, now.ipv6 ?? dash],
        ];
  const under =
    value.under.length === 0
      ? []
      : ["", "under the tunnel, what this network sees: WireGuard datagrams to one address", renderHops(value.under)];
  const through = value.exit === null ? "the way" : "in the tunnel and beyond";
  const lookups =
    value.lookups === null
      ? []
      : ["", ...describeLeakTest(value.lookups, device).flatMap((line) => fold(line, SCREEN_COLUMNS, "  "))];
  return [heading, ...why, "", renderTable(addresses), ...under, "", through, renderHops(value.hops), ...lookups].join(
    "\n",
  );
}

function renderHops(hops: readonly PlacedHop[]): string {
  const rows = hops.map((hop) => [
    String(hop.ttl).padStart(2),
    hop.where,
    hop.name ?? hop.address ?? "no answer",
    hop.name === undefined ? "" : (hop.address ?? ""),
    hop.roundTripMs === undefined ? "" : formatRoundTrip(hop.roundTripMs),
  ]);
  return renderTable(rows, " ");
}
