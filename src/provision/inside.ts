import * as z from "zod";
import { tryJson } from "../kit/json.js";
import { shellWord } from "../kit/shell.js";
import { type CoordinatorStatus, coordinatorStatus } from "../wire/adminapi.js";
import { type AgentStatus, agentStatus } from "../wire/agentsocket.js";
import { LOOK_PROGRAM } from "./insideprogram.js";
import { parseStock, STOCK_LOOK, type Stock } from "./stockpackages.js";

/** What is seen inside a container: everything in one script over one connection, so that a look costs one round trip. */
export type Inside = {
  /** path → what is there. */
  readonly files: ReadonlyMap<string, { sha256: string; mode: number; owner: string }>;
  /** unit → "active", "inactive", "failed", … */
  readonly units: ReadonlyMap<string, string>;
  /** `systemctl is-system-running` */
  readonly system: string;
  readonly sysctl: ReadonlyMap<string, string>;
  /** Whether the rules in force are those of /etc/nftables.conf; undefined when that could not be told. */
  readonly nftMatches: boolean | undefined;
  readonly kernelWireguard: boolean;
  readonly tun: boolean;
  readonly resolvers: readonly string[];
  /** Addresses seen from outside. */
  readonly egress: { readonly ipv4?: string | undefined; readonly ipv6?: string | undefined };
  /** Actions that were due after a push and are not yet done. */
  readonly pending: readonly string[];
  /** What a template that is not ours may lack. */
  readonly stock: Stock;
  readonly joinKeyWaiting: boolean;
  /** The agent holds a network map, or is about to: it has been let in. */
  readonly joined: boolean;
  readonly agent: AgentStatus | undefined;
  readonly coordinator: CoordinatorStatus | undefined;
};

/** Holds what a push made due, from before the first rename until the last action is done. */
export const PENDING_PATH = "/var/lib/exitnode-provision/pending";
export const JOIN_KEY_PATH = "/var/lib/exitnode/join.key";
const MAP_PATH = "/var/lib/exitnode/map.json";
const OBSERVED_UNITS = ["ssh", "nftables", "exitnode-agent", "exitnode-coordinator"] as const;
/** Begins a section, with its name. */
export const SECTION_MARK = "#exn-section#";

export type Look = {
  readonly paths: readonly string[];
  readonly sysctlKeys: readonly string[];
  readonly whoami: readonly string[];
};

/** Run by `sh -s`; Node runs beside the rest, which starts as few programs as it can: each is some milliseconds. */
export function observationScript(look: Look): string {
  const section = (name: string): string => `printf '%s %s\\n' '${SECTION_MARK}' ${name}`;
  const paths = look.paths.map(shellWord).join(" ");
  const keys = look.sysctlKeys.map((key) => `'/proc/sys/${sysctlPath(key)}'`).join(" ");
  return [
    "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "work=$(mktemp -d) || exit 1",
    `trap 'rm -rf "$work"' EXIT`,
    // Before the agent is asked: it removes the key once it is connected, and says so from then on.
    section("joinkey"),
    `[ -f ${JOIN_KEY_PATH} ] && echo yes`,
    `(timeout 8 node -e ${shellWord(LOOK_PROGRAM)} '${SECTION_MARK}' ${look.whoami.map(shellWord).join(" ")} >"$work/seen" 2>/dev/null) &`,
    section("files"),
    paths === "" ? ":" : `find ${paths} -maxdepth 0 -type f -printf '%m %u:%g %p\\n' 2>/dev/null`,
    section("sums"),
    paths === "" ? ":" : `sha256sum -- ${paths} 2>/dev/null`,
    section("units"),
    `set -- $(systemctl is-active ${OBSERVED_UNITS.map((unit) => `${unit}.service`).join(" ")} 2>/dev/null)`,
    `for unit in ${OBSERVED_UNITS.join(" ")}; do printf '%s %s\\n' "$unit" "$1"; [ $# = 0 ] || shift; done`,
    section("system"),
    "systemctl is-system-running 2>/dev/null",
    section("sysctl"),
    keys === "" ? ":" : `grep -sH '' ${keys} | sed 's/:/ /'`,
    section("nft"),
    // The agent has tables of its own beside it.
    // Loaded anew in an empty namespace and listed there, the file says what the rules should look like in nft's own words.
    `if unshare -n sh -c 'nft -f /etc/nftables.conf && nft -s list table inet exitnode' >"$work/want" 2>/dev/null; then nft -s list table inet exitnode >"$work/have" 2>/dev/null; cmp -s "$work/want" "$work/have" && echo same || echo other; fi`,
    section("wireguard"),
    "if ip link add exnprobe type wireguard 2>/dev/null; then ip link delete exnprobe; echo yes; fi",
    section("tun"),
    "[ -c /dev/net/tun ] && echo yes",
    section("resolvers"),
    "sed -n 's/^nameserver[[:space:]]*//p' /etc/resolv.conf 2>/dev/null",
    section("pending"),
    `cat ${PENDING_PATH} 2>/dev/null`,
    section("stock"),
    STOCK_LOOK,
    section("map"),
    `[ -f ${MAP_PATH} ] && echo yes`,
    "wait",
    'cat "$work/seen"',
    "exit 0",
    "",
  ].join("\n");
}

const outside = z.object({ ipv4: z.string().optional(), ipv6: z.string().optional() });

/** The lines of each section of an observation. */
export function sectionsOf(text: string): Map<string, string[]> {
  const sections = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith(`${SECTION_MARK} `)) {
      lines = [];
      sections.set(line.slice(SECTION_MARK.length + 1), lines);
    } else if (line !== "") lines.push(line);
  }
  return sections;
}

export function parseObservation(text: string): Inside {
  const sections = sectionsOf(text);
  const of = (name: string): string[] => sections.get(name) ?? [];
  const sums = new Map(of("sums").map((line) => [line.slice(66), line.slice(0, 64)]));
  const json = (name: string): unknown => tryJson(of(name).join("\n"));
  const seen = outside.safeParse(json("outside"));
  const agent = agentStatus.safeParse(json("agent"));
  const coordinator = coordinatorStatus.safeParse(json("coordinator"));
  return {
    files: new Map(
      of("files").map((line) => {
        const [mode = "", owner = "", ...path] = line.split(" ");
        const name = path.join(" ");
        return [name, { sha256: sums.get(name) ?? "", mode: Number.parseInt(mode, 8), owner }];
      }),
    ),
    units: new Map(of("units").map((line) => splitOnce(line))),
    system: of("system")[0] ?? "unknown",
    sysctl: new Map(
      of("sysctl").map((line) => {
        const [path, value] = splitOnce(line);
        return [path.replace(/^\/proc\/sys\//, ""), value.replace(/\s+/g, " ")];
      }),
    ),
    nftMatches: of("nft")[0] === undefined ? undefined : of("nft")[0] === "same",
    kernelWireguard: of("wireguard")[0] === "yes",
    tun: of("tun")[0] === "yes",
    resolvers: of("resolvers").map((line) => line.trim()),
    egress: seen.success ? { ipv4: seen.data.ipv4, ipv6: seen.data.ipv6 } : {},
    pending: of("pending"),
    stock: parseStock(of("stock")),
    joinKeyWaiting: of("joinkey")[0] === "yes",
    // The map is on disk some seconds after it came.
    joined: of("map")[0] === "yes" || (agent.success && agent.data.coordinator.connected),
    agent: agent.success ? agent.data : undefined,
    coordinator: coordinator.success ? coordinator.data : undefined,
  };
}

/** The settings of a sysctl.d file: key in its path form → value. */
export function sysctlSettings(text: string): Map<string, string> {
  const settings = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^\s*-?([a-z][^=#;\s]*)\s*=\s*(.*?)\s*$/.exec(line);
    if (match?.[1] !== undefined) settings.set(sysctlPath(match[1]), match[2] ?? "");
  }
  return settings;
}

/** sysctl.d(5): dots separate, unless the first separator is a slash. */
function sysctlPath(key: string): string {
  return key.includes("/") ? key : key.replaceAll(".", "/");
}

function splitOnce(line: string): [string, string] {
  const at = line.indexOf(" ");
  return at < 0 ? [line, ""] : [line.slice(0, at), line.slice(at + 1)];
}
