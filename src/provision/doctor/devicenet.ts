import * as z from "zod";
import { type Family, tryIp } from "../../kit/ip.js";
import { tryJson } from "../../kit/json.js";
import { DNS_TABLE } from "../../netconf/clientdns.js";
import { PREFERENCES } from "../../netconf/hostrules.js";
import { type Finding, fine, stops, warns } from "../preflight/finding.js";

/** What this machine's own routing does with a device's traffic. */
export type DeviceNet = {
  /** Rules that are not ours, in order; undefined when `ip` gave none. */
  readonly rules: { readonly [family in Family]: readonly ForeignRule[] | undefined };
  /** The interface that a packet to the Internet leaves by; undefined when none does. */
  readonly leaves: { readonly [family in Family]: string | undefined };
  /** Whether our table for DNS is there; undefined when this user may not know. */
  readonly dnsTable: boolean | undefined;
  /** net.ipv4.conf.NAME.rp_filter */
  readonly rpFilter: ReadonlyMap<string, number>;
};

export type ForeignRule = { readonly preference: number; readonly table: string };
export type Looked = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

/** Far away and nobody's (RFC 5737, RFC 3849): asked for its route, not talked to. */
const FAR = { 4: "203.0.113.1", 6: "2001:db8::1" } as const;

/** None of these changes anything. */
export const DEVICE_COMMANDS = {
  rules4: ["ip", "-4", "-j", "rule", "show"],
  rules6: ["ip", "-6", "-j", "rule", "show"],
  leaves4: ["ip", "-4", "-j", "route", "get", FAR[4]],
  leaves6: ["ip", "-6", "-j", "route", "get", FAR[6]],
  dns: ["nft", "list", "table", "inet", DNS_TABLE],
  rpFilter: ["grep", "-rs", ".", "/proc/sys/net/ipv4/conf", "--include=rp_filter"],
} as const satisfies Record<string, readonly string[]>;
export type DeviceCommand = keyof typeof DEVICE_COMMANDS;

const RULES = z.array(
  z.object({ priority: z.number().default(0), table: z.string().optional(), action: z.string().optional() }),
);
const ROUTES = z.array(z.object({ dev: z.string().optional() }));

export function readDeviceNet(outputs: { readonly [name in DeviceCommand]: Looked }): DeviceNet {
  const leaves = ({ exitCode, stdout }: Looked): string | undefined =>
    exitCode === 0 ? ROUTES.safeParse(tryJson(stdout)).data?.[0]?.dev : undefined;
  const { dns } = outputs;
  return {
    rules: { 4: readRules(outputs.rules4), 6: readRules(outputs.rules6) },
    leaves: { 4: leaves(outputs.leaves4), 6: leaves(outputs.leaves6) },
    dnsTable: dns.exitCode === 0 ? true : /No such file or directory/.test(dns.stderr) ? false : undefined,
    rpFilter: new Map(
      [...outputs.rpFilter.stdout.matchAll(/^.*\/conf\/([^/]+)\/rp_filter:(\d+)$/gm)].map(([, name = "", value]) => [
        name,
        Number(value),
      ]),
    ),
  };
}

function readRules({ exitCode, stdout }: Looked): ForeignRule[] | undefined {
  if (exitCode !== 0) return undefined;
  return (RULES.safeParse(tryJson(stdout)).data ?? [])
    .filter(({ priority }) => priority < PREFERENCES.first || priority > PREFERENCES.last)
    .map(({ priority, table, action }) => ({ preference: priority, table: table ?? action ?? "" }));
}

/** The kernel's own. */
const USUAL = new Set(["local", "main", "default"]);

/** Who keeps a table of that number or name, as far as is known. */
const OWNERS: Readonly<Record<string, string>> = {
  "52": "Tailscale",
  "7120": "NetBird",
  netbird: "NetBird",
  "51820": "wg-quick",
  "1836018789": "Mullvad",
};

/** Another program that decides before us where packets go. */
export function rivalFindings({ rules }: DeviceNet): Finding[] {
  const before = [...(rules[4] ?? []), ...(rules[6] ?? [])].filter(
    ({ preference, table }) => preference < PREFERENCES.first && preference > 0 && !USUAL.has(table),
  );
  const [first] = before;
  if (first === undefined) return [fine("other VPNs", "none decides before ours")];
  const owner = OWNERS[first.table];
  return [
    warns(
      "other VPNs",
      `${owner ?? "another program"} decides before exitnode where packets go (rule ${first.preference}, table ${first.table})`,
      {
        why: "what it takes does not come to our tunnel",
        advice:
          owner === "Tailscale"
            ? "tailscale down    (or no exit node of its own: tailscale set --exit-node=)"
            : owner === "NetBird"
              ? "netbird down"
              : "ip rule; ip -6 rule    (end the program that the rule belongs to)",
      },
    ),
  ];
}

export type Tunnelled = {
  readonly device: string;
  /** The exit's name. */
  readonly exit: string;
};

/** While an exit is used, everything leaves by our device, DNS too: whatever does not is seen by this network. */
export function leakFindings(net: DeviceNet, { device, exit }: Tunnelled): Finding[] {
  const again = `exitnode use none && exitnode use ${exit}`;
  const beside = ([4, 6] as const).filter((family) => {
    const dev = net.leaves[family];
    // lo: an unreachable route is told so by some versions of ip.
    return dev !== undefined && dev !== device && dev !== "lo";
  });
  return [
    ...beside.map((family) =>
      stops("leak", `ipv${family}-leaks`, `IPv${family} leaves by ${net.leaves[family]}, beside the exit node`, {
        why: "our routing rules are not there any more, or another program's stand before them",
        advice: again,
      }),
    ),
    ...(net.dnsTable === false
      ? [
          stops("DNS", "dns-leaks", "look-ups go to this network's resolvers, and not through the exit node", {
            why: `somebody removed the nftables table ${DNS_TABLE}, as a reloaded firewall does`,
            advice: again,
          }),
        ]
      : []),
    ...(beside.length === 0 && net.dnsTable !== false ? [fine("leaks", "none")] : []),
    ...strictFindings(net, device),
  ];
}

/** RFC 3704: the greater of a device's own value and that of `all` holds; 1 is strict. */
function strictFindings({ rpFilter }: DeviceNet, device: string): Finding[] {
  const effective = Math.max(rpFilter.get("all") ?? 0, rpFilter.get(device) ?? 0);
  if (effective !== 1) return [];
  return [
    stops("reverse path", "rp-filter-strict", `${device} drops what comes in by another way than it would go out`, {
      why: "answers from the exit are such packets; another program set rp_filter back to 1",
      advice: "sysctl -w net.ipv4.conf.all.rp_filter=2    (and look for rp_filter in /etc/sysctl.d)",
    }),
  ];
}

/** Whether this machine has a network at all. */
export function networkFindings({ leaves }: DeviceNet): Finding[] {
  if (leaves[4] !== undefined || leaves[6] !== undefined) return [fine("network", leaves[4] ?? leaves[6] ?? "")];
  return [
    stops("network", "no-route", "this machine has no route to the Internet", {
      advice: "ip route; nmcli device    (is the Wi-Fi on?)",
    }),
  ];
}

/** The address of a URL's host where it is one: names are somebody else's to look up. */
export const literalIn = (url: string): boolean => tryIp(new URL(url).hostname.replace(/^\[|\]$/g, "")) !== undefined;
