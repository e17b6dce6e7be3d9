import { SECTION_MARK, sectionsOf } from "../inside.js";

/**
 * What a container shows to a shell in it: read in one script that changes nothing, so that it can also be handed to
 * `pct exec` where no SSH gets in.
 */
export type Symptoms = {
  /** The user that owns /. */
  readonly rootOwner: string;
  /** Units that failed, or that systemd starts over and over. */
  readonly units: readonly FailedUnit[];
  readonly sshSocket: boolean;
  /** Of /tmp, when it is in memory. */
  readonly tmpBytes: number | undefined;
  readonly tun: TunNode | undefined;
  /** What the agent's user gets for opening it; empty when it opens. */
  readonly tunRefusal: string;
  /** Below /proc/sys → value, and whether it may be written. */
  readonly sysctl: ReadonlyMap<string, { readonly value: string; readonly writable: boolean }>;
  /** Of the uplink, IPv6: addresses beyond the link, and a default route. */
  readonly ipv6: { readonly global: boolean; readonly defaultRoute: boolean };
  /** What `nft list tables` complains about; empty when it does not. */
  readonly nftRefusal: string;
  /** Tables of the old iptables that hold rules. */
  readonly legacyTables: readonly string[];
  readonly locale: { readonly wanted: string; readonly there: readonly string[] };
  /** apt's proxies, as configured. */
  readonly aptProxies: readonly string[];
  /** The program that holds dpkg's lock. */
  readonly dpkgHolder: string | undefined;
  /** Programs that set up a network. */
  readonly networkPrograms: readonly string[];
  readonly wallSeconds: number | undefined;
  /** Processes killed for want of memory since the container's start. */
  readonly outOfMemory: number;
  readonly diskUsedPercent: number | undefined;
};

export type FailedUnit = {
  readonly name: string;
  /** As the kernel or systemd gives it: 226 is NAMESPACE. */
  readonly status: number;
  /** The end of its journal. */
  readonly said: readonly string[];
};
export type TunNode = { readonly mode: number; readonly owner: string };

/** Of more failed units than this, the others are not looked at. */
const UNITS_MAX = 8;
const UNIT_LINES = 8;
const AGENT_USER = "exitnode";

const SYSCTL = [
  "net/ipv4/ip_forward",
  "net/ipv6/conf/all/forwarding",
  "net/ipv4/conf/all/rp_filter",
  "net/netfilter/nf_conntrack_count",
  "net/netfilter/nf_conntrack_max",
] as const;
export const ACCEPT_RA = "accept_ra";

/** Run by `sh -s`; every part has its own end, and a program that is missing leaves its section empty. */
export function symptomScript(uplink = "eth0"): string {
  const section = (name: string): string => `printf '%s %s\\n' '${SECTION_MARK}' ${name}`;
  const keys = [...SYSCTL, `net/ipv6/conf/${uplink}/${ACCEPT_RA}`].map((key) => `/proc/sys/${key}`).join(" ");
  const quietly = (command: string): string => `timeout 4 ${command} 2>/dev/null`;
  return [
    "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    section("root"),
    "stat -c %U /",
    section("units"),
    // A unit that is started again and again is "activating", and not among the failed ones.
    `for unit in $( { ${quietly("systemctl list-units --plain --no-legend --state=failed")}; ${quietly("systemctl list-units --plain --no-legend --state=activating --type=service")} | grep auto-restart; } | awk '{print $1}' | head -n ${UNITS_MAX}); do`,
    `  printf 'unit %s %s\\n' "$unit" "$(${quietly('systemctl show -P ExecMainStatus "$unit"')})"`,
    `  ${quietly(`journalctl -u "$unit" -n ${UNIT_LINES} -o cat --no-pager`)} | sed 's/^/said /'`,
    "done",
    section("sshsocket"),
    quietly("systemctl is-active ssh.socket"),
    section("tmp"),
    "stat -f -c '%T %S %b' /tmp",
    section("tun"),
    "[ -c /dev/net/tun ] && stat -c '%a %U:%G' /dev/net/tun",
    section("tunopen"),
    // Opening it makes nothing: an interface is made by an ioctl.
    `[ -c /dev/net/tun ] && id -u ${AGENT_USER} >/dev/null 2>&1 && setpriv --reuid=${AGENT_USER} --regid=${AGENT_USER} --clear-groups sh -c 'exec 3<>/dev/net/tun' 2>&1 | sed 's/.*: //'`,
    section("sysctl"),
    `for key in ${keys}; do [ -r "$key" ] && printf '%s %s %s\\n' "$key" "$([ -w "$key" ] && echo rw || echo ro)" "$(cat "$key")"; done`,
    section("ipv6"),
    `${quietly(`ip -6 address show dev ${uplink} scope global`)} | grep -q inet6 && echo global`,
    `${quietly(`ip -6 route show default dev ${uplink}`)} | grep -q default && echo default`,
    section("nft"),
    "timeout 4 nft list tables 2>&1 >/dev/null | head -n 1",
    section("legacy"),
    "cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null",
    section("locale"),
    "sed -n 's/^LC_ALL=\\|^LANG=//p' /etc/default/locale /etc/locale.conf 2>/dev/null | tr -d '\"' | head -n 1",
    section("locales"),
    quietly("locale -a"),
    section("apt"),
    `${quietly("apt-config dump Acquire")} | sed -n 's/^Acquire::https\\{0,1\\}::Proxy "\\(.*\\)";$/\\1/p'`,
    section("dpkg"),
    // /proc/locks: "1: POSIX  ADVISORY  WRITE 417 00:2a:1234 0 EOF".
    `lock=$(stat -c %i /var/lib/dpkg/lock-frontend 2>/dev/null) && pid=$(awk -v inode="$lock" '{ split($6, at, ":"); if (at[3] == inode) { print $5; exit } }' /proc/locks) && [ -n "$pid" ] && cat "/proc/$pid/comm" 2>/dev/null`,
    section("programs"),
    "for name in ifup dhcpcd dhclient udhcpc networkctl; do command -v $name >/dev/null && echo $name; done",
    section("clock"),
    "date +%s",
    section("memory"),
    "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null | sed -n 's/^oom_kill //p' | head -n 1",
    section("disk"),
    'df -P / | awk \'NR == 2 { sub("%", "", $5); print $5 }\'',
    "exit 0",
    "",
  ].join("\n");
}

export function parseSymptoms(text: string): Symptoms {
  const sections = sectionsOf(text);
  const of = (name: string): readonly string[] => sections.get(name) ?? [];
  const first = (name: string): string => of(name)[0]?.trim() ?? "";
  const [kind, blockBytes, blocks] = first("tmp").split(" ");
  const [mode = "", owner = ""] = first("tun").split(" ");
  return {
    rootOwner: first("root"),
    units: readUnits(of("units")),
    sshSocket: first("sshsocket") === "active",
    tmpBytes: kind === "tmpfs" ? Number(blockBytes) * Number(blocks) : undefined,
    tun: mode === "" ? undefined : { mode: Number.parseInt(mode, 8), owner },
    tunRefusal: first("tunopen"),
    sysctl: new Map(
      of("sysctl").map((line) => {
        const [path = "", access, ...value] = line.split(" ");
        return [path.replace("/proc/sys/", ""), { value: value.join(" "), writable: access === "rw" }];
      }),
    ),
    ipv6: { global: of("ipv6").includes("global"), defaultRoute: of("ipv6").includes("default") },
    nftRefusal: first("nft"),
    legacyTables: [...new Set(of("legacy"))],
    locale: { wanted: first("locale"), there: of("locales") },
    aptProxies: of("apt"),
    dpkgHolder: first("dpkg") || undefined,
    networkPrograms: of("programs"),
    wallSeconds: wholeNumber(first("clock")),
    outOfMemory: wholeNumber(first("memory")) ?? 0,
    diskUsedPercent: wholeNumber(first("disk")),
  };
}

function readUnits(lines: readonly string[]): FailedUnit[] {
  const units: { name: string; status: number; said: string[] }[] = [];
  for (const line of lines) {
    const [, name, status] = /^unit (\S+) (\d*)$/.exec(line) ?? [];
    if (name !== undefined) units.push({ name, status: Number(status), said: [] });
    else if (line.startsWith("said ")) units.at(-1)?.said.push(line.slice(5));
  }
  return units;
}

const wholeNumber = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);
