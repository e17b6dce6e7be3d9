import { SKEW_MAX_MS } from "../preflight/clock.js";
import { kernelNews, MODULE } from "../preflight/dataplane.js";
import { type Finding, fine, onHost, stops, warns } from "../preflight/finding.js";
import { createAgain, type Examined, inContainer } from "./examined.js";
import { ACCEPT_RA } from "./symptoms.js";
import { unitFindings } from "./units.js";

/** What is wrong inside, the likeliest cause first. */
export function containerFindings(examined: Examined): Finding[] {
  return [
    ...dataPlaneFindings(examined),
    ...unitFindings(examined),
    ...nftFindings(examined),
    ...forwardingFindings(examined),
    ...ipv6Findings(examined),
    ...memoryFindings(examined),
    ...clockFindings(examined),
    ...conntrackFindings(examined),
    ...baseFindings(examined),
    ...aptFindings(examined),
  ];
}

const DATA_PLANE = "data plane";

function dataPlaneFindings(examined: Examined): Finding[] {
  const { container, inside, symptoms, kernel } = examined;
  const { vmid, config } = container;
  if (inside?.kernelWireguard === true) return [fine(DATA_PLANE, "WireGuard of the kernel")];
  const { tun, tunRefusal } = symptoms;
  const of = kernel === undefined ? "the host's kernel" : `the host's kernel ${kernel}`;
  if (tun === undefined && config.options.dev0 !== undefined)
    return [
      stops(DATA_PLANE, "tun-gone", `/dev/net/tun is passed to container ${vmid} and is not there`, {
        why: "the container started before the host had the device",
        advice: onHost("modprobe tun && echo tun > /etc/modules-load.d/tun.conf", `pct reboot ${vmid}`),
      }),
    ];
  if (tun === undefined)
    return inside === undefined
      ? []
      : [
          stops(DATA_PLANE, "data-plane-unavailable", `${of} offers no WireGuard, and there is no /dev/net/tun`, {
            why: "one of the two carries the traffic",
            advice: onHost(
              ...(kernelNews(kernel) === "lacks" ? [] : [MODULE]),
              `pct set ${vmid} --dev0 /dev/net/tun,mode=0666 && pct reboot ${vmid}`,
            ),
          }),
        ];
  if (tunRefusal === "") return [fine(DATA_PLANE, "/dev/net/tun opens")];
  // A node of the host's nobody is as good as any other, as long as it opens.
  const denied = /permission denied/i.test(tunRefusal);
  return [
    stops(
      DATA_PLANE,
      denied ? "tun-closed" : "tun-dead",
      `the agent may not open /dev/net/tun (${tun.owner}, mode ${tun.mode.toString(8)}): ${tunRefusal}`,
      {
        why: denied ? "a device is passed with mode 0660 unless told otherwise" : "the host has no driver behind it",
        advice: denied
          ? onHost(`pct set ${vmid} --dev0 /dev/net/tun,mode=0666 && pct reboot ${vmid}`)
          : onHost("modprobe tun && echo tun > /etc/modules-load.d/tun.conf", `pct reboot ${vmid}`),
      },
    ),
  ];
}

function nftFindings(examined: Examined): Finding[] {
  const { symptoms, inside } = examined;
  const { nftRefusal, legacyTables } = symptoms;
  if (nftRefusal !== "")
    return [
      stops("nftables", "nftables-refused", `nft does not work: ${nftRefusal.slice(0, 200)}`, {
        why: "without it nothing is forwarded for the tunnel, and nothing is kept out of your LAN",
        advice: onHost("modprobe -a nf_tables nft_masq nf_nat", `pct reboot ${examined.container.vmid}`),
      }),
    ];
  return [
    ...(inside?.nftMatches === false
      ? [
          warns("nftables", "the rules in force are not those of /etc/nftables.conf", {
            why: "another program changed them, or they were never loaded",
            advice: createAgain(examined),
          }),
        ]
      : [fine("nftables", "works")]),
    ...(legacyTables.length === 0
      ? []
      : [
          warns("iptables", `old iptables rules are in force as well (table ${legacyTables.join(", ")})`, {
            why: "both sets are asked for every packet, and one drop is enough",
            advice: inContainer(examined, "iptables-legacy-save"),
          }),
        ]),
  ];
}

const FORWARDING = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] as const;

function forwardingFindings(examined: Examined): Finding[] {
  const off = FORWARDING.filter((key) => examined.symptoms.sysctl.get(key)?.value === "0");
  if (off.length === 0) return [fine("forwarding", "on")];
  const names = off.map((key) => key.replaceAll("/", ".")).join(" and ");
  const closed = off.some((key) => examined.symptoms.sysctl.get(key)?.writable === false);
  return [
    stops("forwarding", "forwarding-off", `${names} ${off.length === 1 ? "is" : "are"} 0`, {
      why: closed
        ? "/proc/sys is read-only in this container, as where its LXC configuration mounts it so"
        : "an exit node hands on what is not for itself",
      advice: closed
        ? onHost(
            `grep -n '^lxc' /etc/pve/lxc/${examined.container.vmid}.conf    (take lxc.mount.auto lines out, then pct reboot)`,
          )
        : createAgain(examined),
    }),
  ];
}

function ipv6Findings(examined: Examined): Finding[] {
  const { symptoms, container } = examined;
  const { sysctl, ipv6 } = symptoms;
  const acceptRa = [...sysctl].find(([key]) => key.endsWith(ACCEPT_RA))?.[1].value;
  const forwards = sysctl.get("net/ipv6/conf/all/forwarding")?.value === "1";
  const byRouter = /(?:^|,)ip6=auto(?:,|$)/.test(container.config.options.net0 ?? "");
  if (!byRouter || !forwards || acceptRa === "2" || acceptRa === undefined) return [];
  const lost = !ipv6.global || !ipv6.defaultRoute;
  return [
    warns(
      "IPv6",
      `eth0 ${lost ? "has lost" : "will lose"} its IPv6: accept_ra is ${acceptRa}, and the container forwards`,
      {
        why: "a machine that forwards listens to router advertisements only with accept_ra=2",
        advice: createAgain(examined),
      },
    ),
  ];
}

const FULL_PERCENT = 95;

function memoryFindings(examined: Examined): Finding[] {
  const { symptoms, container } = examined;
  const { tmpBytes, outOfMemory, diskUsedPercent = 0 } = symptoms;
  const { vmid, config } = container;
  const memoryBytes = config.memoryMib * 1024 ** 2;
  return [
    ...(outOfMemory === 0
      ? []
      : [
          warns("memory", `${outOfMemory} processes were killed for want of memory (it has ${config.memoryMib} MiB)`, {
            advice: onHost(`pct set ${vmid} --memory ${config.memoryMib * 2}`),
          }),
        ]),
    ...(tmpBytes === undefined || tmpBytes <= memoryBytes / 2
      ? []
      : [
          warns(
            "/tmp",
            `/tmp is in memory and may grow to ${mib(tmpBytes)}; the container has ${config.memoryMib} MiB`,
            {
              why: "Debian 13 sizes it by the host's memory, and what is in it counts as the container's",
              advice: createAgain(examined),
            },
          ),
        ]),
    ...(diskUsedPercent < FULL_PERCENT
      ? []
      : [
          stops("disk", "disk-full", `its disk is ${diskUsedPercent} % full`, {
            advice: onHost(`pct resize ${vmid} rootfs +2G`),
          }),
        ]),
  ];
}

const mib = (bytes: number): string => `${Math.round(bytes / 1024 ** 2)} MiB`;

function clockFindings(examined: Examined): Finding[] {
  const { symptoms, wallMs } = examined;
  if (symptoms.wallSeconds === undefined) return [];
  const skewMs = symptoms.wallSeconds * 1_000 - wallMs;
  if (Math.abs(skewMs) <= SKEW_MAX_MS) return [fine("clock", "as this machine's")];
  const seconds = Math.round(Math.abs(skewMs) / 1_000);
  return [
    stops("clock", "clock-wrong", `the container's clock is ${seconds} s ${skewMs > 0 ? "ahead" : "behind"}`, {
      why: "it is the host's; handshakes and join keys are good for a time",
      advice: `here: timedatectl\n${onHost("chronyc makestep")}`,
    }),
  ];
}

/** New connections are refused when the table is full; the limit is the host's to set. */
const NEARLY_FULL = 0.9;

function conntrackFindings({ symptoms }: Examined): Finding[] {
  const number = (name: string): number => Number(symptoms.sysctl.get(`net/netfilter/${name}`)?.value ?? Number.NaN);
  const [count, max] = [number("nf_conntrack_count"), number("nf_conntrack_max")];
  if (!(count >= max * NEARLY_FULL)) return [];
  return [
    stops("connections", "conntrack-full", `${count} connections are tracked, of ${max} that may be`, {
      why: "above it new ones are dropped; only the host may raise the limit",
      advice: onHost(
        `sysctl -w net.netfilter.nf_conntrack_max=${max * 2}`,
        `echo net.netfilter.nf_conntrack_max=${max * 2} > /etc/sysctl.d/90-conntrack.conf`,
      ),
    }),
  ];
}

function baseFindings(examined: Examined): Finding[] {
  const { rootOwner, sshSocket, locale } = examined.symptoms;
  const { vmid } = examined.container;
  const there = locale.there.map(plainLocale);
  const missing =
    !/^(?:$|C(?:\.|$)|POSIX$)/.test(locale.wanted) && there.length > 0 && !there.includes(plainLocale(locale.wanted));
  return [
    ...(rootOwner === "root" || rootOwner === ""
      ? []
      : [
          stops("root folder", "root-owner", `/ belongs to ${rootOwner}, and not to root`, {
            why: "systemd-tmpfiles and sshd refuse paths that somebody else owns",
            advice: onHost(
              `pct stop ${vmid} && pct mount ${vmid}`,
              `chown 100000:100000 /var/lib/lxc/${vmid}/rootfs`,
              `pct unmount ${vmid} && pct start ${vmid}`,
            ),
          }),
        ]),
    ...(sshSocket
      ? [
          warns("SSH", "ssh.socket owns port 22, so Port and ListenAddress of sshd's configuration do not count", {
            advice: inContainer(examined, "systemctl mask --now ssh.socket", "systemctl restart ssh.service"),
          }),
        ]
      : []),
    ...(missing
      ? [
          warns("locale", `the locale ${locale.wanted} is wanted and is not there: programs complain, some fail`, {
            advice: inContainer(examined, "sh -c 'echo LANG=C.UTF-8 > /etc/default/locale'"),
          }),
        ]
      : []),
  ];
}

/** "en_US.UTF-8" and "en_US.utf8" are one. */
const plainLocale = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, "");

function aptFindings(examined: Examined): Finding[] {
  const { aptProxies, dpkgHolder } = examined.symptoms;
  const broken = aptProxies.filter((proxy) => proxy !== "" && proxy !== "DIRECT" && !isProxy(proxy));
  return [
    ...(broken.length === 0
      ? []
      : [
          warns("apt", `apt is sent to a proxy that is none: "${broken.map(withoutLogin).join('", "')}"`, {
            why: "security updates do not arrive",
            advice: inContainer(examined, "grep -rn Proxy /etc/apt/apt.conf /etc/apt/apt.conf.d"),
          }),
        ]),
    ...(dpkgHolder === undefined
      ? []
      : [
          warns("apt", `${dpkgHolder} is installing or updating packages now`, {
            why: "other installations wait for its lock",
            advice: inContainer(examined, "systemctl list-jobs", "journalctl -u apt-daily-upgrade -n 20"),
          }),
        ]),
  ];
}

/** A proxy may have a password, which nobody else is to read. */
const withoutLogin = (url: string): string => url.replace(/\/\/[^/]*@/, "//…@");

/** A variable that was empty when the line was written leaves "http://:3142" or "http:///". */
function isProxy(text: string): boolean {
  return /^(?:https?|socks5h):\/\/(?:[^\s/:@$]+(?::[^\s/@]*)?@)?(?:\[[0-9a-f:]+\]|[^\s/:@$]+)(?::\d+)?\/?$/i.test(text);
}
