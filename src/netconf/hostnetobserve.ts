import * as z from "zod";
import { type Cidr, type Family, tryCidr } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import { DNS_TABLE } from "./clientdns.js";
import { type ObservedHostNet, type Previous, ROUTING_TABLE } from "./hostnet.js";
import { PREFERENCES, TCP, UDP } from "./hostrules.js";
import { INBOUND_TABLE } from "./inbound.js";
import { type ObservedTable, readTable } from "./nfttable.js";

/** The commands whose output says what the network of a machine is, and the reading of it. */
const OBSERVATIONS = [
  ...(["addresses", "rules4", "rules6", "routes4", "routes6"] as const),
  ...(["bridges", "ways4", "ways6", "dns", "inbound", "rpFilter", "ip6Off"] as const),
];
export type Observation = (typeof OBSERVATIONS)[number];
export type Output = { readonly exitCode: number; readonly stdout: string };

/** None changes anything; a failure of one is an answer too (there is no such device, table, protocol). */
export function observeHostNet(device: string): { readonly name: Observation; readonly argv: readonly string[] }[] {
  const routes = ["route", "show", "table", `${ROUTING_TABLE}`];
  const argv: Record<Observation, readonly string[]> = {
    addresses: ["ip", "-j", "address", "show", "dev", device],
    rules4: ["ip", "-4", "-j", "rule", "show"],
    rules6: ["ip", "-6", "-j", "rule", "show"],
    routes4: ["ip", "-4", "-j", ...routes],
    routes6: ["ip", "-6", "-j", ...routes],
    bridges: ["ip", "-j", "address", "show", "type", "bridge"],
    ways4: ["ip", "-4", "-j", "route", "show", "default"],
    ways6: ["ip", "-6", "-j", "route", "show", "default"],
    dns: ["nft", "list", "table", "inet", DNS_TABLE],
    inbound: ["nft", "list", "table", "inet", INBOUND_TABLE],
    rpFilter: ["grep", "-rs", ".", "/proc/sys/net/ipv4/conf", "--include=rp_filter"],
    ip6Off: ["cat", `/proc/sys/net/ipv6/conf/${device}/disable_ipv6`],
  };
  return OBSERVATIONS.map((name) => ({ name, argv: argv[name] }));
}

const RULES = z.array(
  z.object({
    priority: z.number().default(0),
    fwmark: z.string().optional(),
    src: z.string().optional(),
    srclen: z.number().optional(),
    dst: z.string().optional(),
    dstlen: z.number().optional(),
    uid_start: z.number().optional(),
    uid_end: z.number().optional(),
    ipproto: z.string().optional(),
    dport: z.number().optional(),
    table: z.string().optional(),
    suppress_prefixlen: z.number().optional(),
    action: z.string().optional(),
  }),
);
const ROUTES = z.array(z.object({ dst: z.string(), dev: z.string().optional() }));
const LINKS = z.array(
  z.object({
    ifname: z.string().optional(),
    flags: z.array(z.string()),
    mtu: z.number(),
    addr_info: z.array(z.object({ local: z.string(), prefixlen: z.number(), scope: z.string() })).default([]),
  }),
);

/** `previous` is what the caller kept of previousOf(). */
export function readHostNet(
  device: string,
  outputs: { readonly [name in Observation]: Output },
  previous: Previous,
): ObservedHostNet {
  const link = parsed(LINKS, outputs.addresses)[0];
  return {
    device,
    link: link === undefined ? undefined : { up: link.flags.includes("UP"), mtu: link.mtu },
    addresses: (link?.addr_info ?? [])
      .filter(({ scope }) => scope === "global")
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`),
    rules: { 4: readRules(outputs.rules4), 6: readRules(outputs.rules6) },
    routes: { 4: readRoutes(outputs.routes4, 4), 6: readRoutes(outputs.routes6, 6) },
    // Without a device there is nothing to say its IPv6 is off; without the protocol even the rules fail.
    ip6: outputs.rules6.exitCode === 0 && outputs.ip6Off.stdout.trim() !== "1",
    own: ownNetworks(outputs),
    dns: tableIn(outputs.dns),
    inbound: tableIn(outputs.inbound),
    rpFilter: Object.fromEntries(
      [...outputs.rpFilter.stdout.matchAll(/^.*\/conf\/([^/]+)\/rp_filter:(\d+)$/gm)].map(([, name = "", value]) => [
        name,
        Number(value),
      ]),
    ),
    previous,
  };
}

/** A bridge that a default route leaves by has a network of somebody else's on it. */
function ownNetworks({ bridges, ways4, ways6 }: { readonly [name in Observation]: Output }): Cidr[] {
  const outward = new Set([ways4, ways6].flatMap((output) => parsed(ROUTES, output).map(({ dev }) => dev)));
  return parsed(LINKS, bridges)
    .filter(({ ifname }) => !outward.has(ifname))
    .flatMap(({ addr_info }) => addr_info.filter(({ scope }) => scope === "global"))
    .flatMap(({ local, prefixlen }) => tryCidr(`${local}/${prefixlen}`) ?? []);
}

const tableIn = ({ exitCode, stdout }: Output): ObservedTable | undefined =>
  exitCode === 0 ? readTable(stdout) : undefined;

function readRules(output: Output): string[] {
  return parsed(RULES, output)
    .filter(({ priority }) => priority >= PREFERENCES.first && priority <= PREFERENCES.last)
    .map((rule) =>
      [
        `pref ${rule.priority}`,
        rule.fwmark === undefined ? undefined : `fwmark ${rule.fwmark}`,
        // A rule for every source says "all".
        rule.src === undefined || rule.src === "all" ? undefined : `from ${withLength(rule.src, rule.srclen)}`,
        rule.dst === undefined ? undefined : `to ${withLength(rule.dst, rule.dstlen)}`,
        rule.uid_start === undefined ? undefined : `uidrange ${rule.uid_start}-${rule.uid_end ?? rule.uid_start}`,
        rule.ipproto === undefined ? undefined : `ipproto ${protocolNumber(rule.ipproto)}`,
        rule.dport === undefined ? undefined : `dport ${rule.dport}`,
        rule.table === undefined ? rule.action : `lookup ${rule.table}`,
        rule.suppress_prefixlen === undefined ? undefined : `suppress_prefixlength ${rule.suppress_prefixlen}`,
      ]
        .filter((part) => part !== undefined)
        .join(" "),
    );
}

const withLength = (address: string, length: number | undefined): string =>
  `${address}/${length ?? (address.includes(":") ? 128 : 32)}`;

const PROTOCOLS: Readonly<Record<string, number>> = { udp: UDP, tcp: TCP };
/** `ip` prints the name where /etc/protocols tells it one, else "ipproto-17". */
const protocolNumber = (text: string): string => `${PROTOCOLS[text] ?? text.replace(/^ipproto-/, "")}`;

function readRoutes(output: Output, family: Family): { to: string; dev: string | undefined }[] {
  return parsed(ROUTES, output).map(({ dst, dev }) => {
    const text = dst === "default" ? (family === 4 ? "0.0.0.0/0" : "::/0") : dst;
    return { to: tryCidr(text) ?? text, dev };
  });
}

/** An empty list for a command that failed or printed anything but its JSON: ours is then simply not there. */
function parsed<T>(schema: z.ZodType<T[]>, { exitCode, stdout }: Output): T[] {
  return exitCode === 0 ? (schema.safeParse(tryJson(stdout)).data ?? []) : [];
}
