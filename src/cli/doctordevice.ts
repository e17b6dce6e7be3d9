import { join } from "node:path";
import { parse } from "yaml";
import { seenFrom } from "../agent/whoami.js";
import { asFailure } from "../kit/failure.js";
import { familyOf, type Ip } from "../kit/ip.js";
import { type Millis, SECOND } from "../kit/time.js";
import { type Answer, within } from "../provision/doctor/deadline.js";
import { type DeviceFacts, deviceFindings, type TunnelTrial } from "../provision/doctor/device.js";
import {
  DEVICE_COMMANDS,
  type DeviceCommand,
  type DeviceNet,
  type Looked,
  literalIn,
  readDeviceNet,
} from "../provision/doctor/devicenet.js";
import type { Finding } from "../provision/preflight/finding.js";
import { fetchText } from "../sys/fetchtext.js";
import { openHttps } from "../sys/https.js";
import { lookUp } from "../sys/resolve.js";
import { agentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { askNetcheck, askWhoami, tryAgentStatus } from "./agentclient.js";
import type { Call, Parts } from "./command.js";
import { serverDate } from "./doctorclock.js";
import { whoamiUrls } from "./whoamiurls.js";

/** A netcheck takes up to ten seconds, everything else a fraction. */
const NETCHECK_WITHIN_MS: Millis = 12 * SECOND;
const WHOAMI_WITHIN_MS: Millis = 10 * SECOND;
const PROBE_WITHIN_MS: Millis = 5 * SECOND;

/** This machine as a device: asks its agent, its kernel and the network it is in, all at once. */
export async function lookAtDevice(call: Call): Promise<Finding[]> {
  return deviceFindings(await deviceFacts(call));
}

async function deviceFacts(call: Call): Promise<DeviceFacts> {
  const { parts, signal } = call;
  const { clock, paths } = parts;
  const probe = <T>(what: string, work: (signal: AbortSignal) => Promise<T>, limitMs = PROBE_WITHIN_MS) =>
    within({ clock, signal }, limitMs, what, work);
  const status = await probe("the agent", () => tryAgentStatus(paths));
  const agent = "value" in status ? status.value : undefined;
  const urls = await coordinatorUrls(parts, agent);
  const whoami = await whoamiUrls(parts);
  const name = whoami.find((url) => !literalIn(url));
  const exit = agent?.exit;
  const [netcheck, net, behindMs, lookup, doors, seen, tunnel] = await Promise.all([
    agent === undefined ? undefined : probe("netcheck", () => askNetcheck(paths), NETCHECK_WITHIN_MS),
    probe("ip and nft", (stop) => readNet(parts, stop)),
    probe("a clock", () => behind(parts, [...urls, ...whoami])),
    name === undefined ? undefined : probe("the resolver", () => lookUp(new URL(name).hostname)),
    agent?.coordinator.connected === true ? [] : dialAll(urls, (url) => probe(url, (stop) => dial(url, stop))),
    exit === undefined ? undefined : probe("whoami", () => seenNow(parts, whoami), WHOAMI_WITHIN_MS),
    agent === undefined ? undefined : probe("ping", (stop) => tryTunnel(parts, agent, stop)),
  ]);
  return {
    status,
    netcheck,
    net: told(net),
    behindMs: told(behindMs),
    // Silence of all of them is an answer.
    seen: seen === undefined ? undefined : (told(seen) ?? { now: {}, past: {} }),
    lookup,
    doors,
    tunnel: told(tunnel),
  };
}

async function seenNow({ paths }: Parts, urls: readonly string[]): Promise<NonNullable<DeviceFacts["seen"]>> {
  const [now, past] = await Promise.all([seenFrom(fetchText, urls), askWhoami(paths).catch(() => ({}))]);
  return { now, past };
}

const told = <T>(answer: Answer<T> | undefined): T | undefined =>
  answer !== undefined && "value" in answer ? answer.value : undefined;

/** Those of the agent's file, which a joined machine has whether or not its agent runs. */
async function coordinatorUrls({ files, paths }: Parts, agent: AgentStatus | undefined): Promise<readonly string[]> {
  const text = await files.readText(join(paths.etc, DEVICE_FILES.config)).catch(() => undefined);
  const config = text === undefined ? undefined : agentConfig.safeParse(parse(text)).data;
  return config?.coordinator.urls ?? (agent?.coordinator.url === undefined ? [] : [agent.coordinator.url]);
}

async function readNet({ exec }: Parts, signal: AbortSignal): Promise<DeviceNet> {
  const names = Object.keys(DEVICE_COMMANDS) as DeviceCommand[];
  const nothing: Looked = { exitCode: 127, stdout: "", stderr: "" };
  const looked = await Promise.all(
    names.map(async (name) => [name, await exec.run(DEVICE_COMMANDS[name], { signal }).catch(() => nothing)] as const),
  );
  return readDeviceNet(Object.fromEntries(looked) as Record<DeviceCommand, Looked>);
}

/** How far this machine's clock is behind that of the first server that tells one. */
async function behind({ clock }: Parts, urls: readonly string[]): Promise<Millis | undefined> {
  for (const url of urls.slice(0, CLOCKS_MAX)) {
    const told = await serverDate(url, CLOCK_WITHIN_MS);
    if (told !== undefined) return told - clock.wall();
  }
  return undefined;
}
const CLOCKS_MAX = 3;
const CLOCK_WITHIN_MS: Millis = 1.5 * SECOND;

type Door = DeviceFacts["doors"][number];

async function dialAll(
  urls: readonly string[],
  answer: (url: string) => Promise<Answer<undefined>>,
): Promise<readonly Door[]> {
  return Promise.all(
    urls.map(async (url) => {
      const dialled = await answer(url);
      return { url, trouble: "value" in dialled ? undefined : asFailure(dialled.failure).message };
    }),
  );
}

async function dial(url: string, signal: AbortSignal): Promise<undefined> {
  const https = openHttps();
  try {
    await https.peerFingerprint(url, { deadlineMs: PROBE_WITHIN_MS, signal });
    return undefined;
  } finally {
    https.close();
  }
}

/** IPv4 and ICMP headers (RFC 791, RFC 792). */
const PING_HEADER_BYTES = 28;
const SMALL_BYTES = 100;

/** Undefined where there is no exit to ping, or no ping. */
async function tryTunnel(
  { exec }: Parts,
  { exit, peers, mtu }: AgentStatus,
  signal: AbortSignal,
): Promise<TunnelTrial | undefined> {
  const addresses = peers.find(({ name }) => name === exit?.name)?.addresses ?? [];
  const address = addresses.find((ip) => familyOf(ip) === 4);
  if (exit?.state !== "active" || address === undefined || mtu === undefined) return undefined;
  const passes = (bytes: number): Promise<boolean> => ping(exec, address, bytes, signal);
  const [small, large] = await Promise.all([passes(SMALL_BYTES), passes(mtu)]);
  return { small, large, bytes: mtu };
}

/** Sends until the first answer, or for two seconds; no router on the way may cut the packet up. */
const PING = ["-n", "-c", "1", "-i", "0.5", "-w", "2", "-M", "do"] as const;

async function ping(exec: Parts["exec"], address: Ip, bytes: number, signal: AbortSignal): Promise<boolean> {
  const size = String(bytes - PING_HEADER_BYTES);
  const ran = await exec.run(["ping", ...PING, "-s", size, address], {
    signal,
  });
  return ran.exitCode === 0;
}
