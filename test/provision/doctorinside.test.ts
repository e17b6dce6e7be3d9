import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { agentFindings, lineFindings } from "../../src/provision/doctor/agent.js";
import { containerFindings } from "../../src/provision/doctor/container.js";
import { healthFindings } from "../../src/provision/doctor/health.js";
import { parseSymptoms, symptomScript } from "../../src/provision/doctor/symptoms.js";
import { observationScript, parseObservation } from "../../src/provision/inside.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { configReply } from "../../src/pve/replies.js";
import { AGENT, Room, roomFile, roomMissing } from "./room.js";

const IDENTITY = { id: "1", name: "home", given: {}, coordinator: true };
const NET0 = "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto";

type Situation = {
  readonly broken?: readonly string[];
  readonly enter?: string;
  readonly options?: Readonly<Record<string, string>>;
  /** Only `pct exec` gets in. */
  readonly closed?: boolean;
  readonly aheadMs?: number;
  /** Seen inside by another, as only a host with the module shows it. */
  readonly kernelWireguard?: boolean;
};

/** Both scripts, run by a real shell in a room with that broken, and all that is made of what they print. */
async function examine({ broken, enter, options, closed, aheadMs = 0 }: Situation): Promise<Finding[]> {
  const room = new Room(broken, enter);
  const [symptoms, observed] = await Promise.all([
    room.run(symptomScript()),
    room.run(observationScript({ paths: [], sysctlKeys: [], whoami: ["https://198.51.100.1"] })),
  ]);
  assert.equal(symptoms.exitCode, 0, symptoms.stderr);
  const config = configReply({ net0: NET0, unprivileged: 1, memory: 512, ...options });
  const container = { vmid: 101, node: "pve1", running: true, identity: IDENTITY, config };
  const inside = closed === true ? undefined : parseObservation(observed.stdout);
  const examined = {
    container,
    hostName: "pve1",
    symptoms: parseSymptoms(symptoms.stdout),
    inside,
    kernel: "6.14.11-4-pve",
    wallMs: Date.now() + aheadMs,
  };
  const agent = inside?.agent;
  return [
    ...containerFindings(examined),
    ...healthFindings(examined),
    ...(agent === undefined ? [] : [...lineFindings(agent), ...agentFindings(agent)]),
  ];
}

const unit = (name: string, state: string, status: number, ...journal: string[]): string[] => [
  `echo '${name} ${state} ${status}' >> etc/exn-units`,
  roomFile(`etc/exn-journal-${name}`, journal.join("\n")),
];

type Row = Situation & {
  readonly title: string;
  readonly is: "stops" | "warns";
  /** What is said, with why and the commands. */
  readonly says: RegExp;
};

const rows: readonly Row[] = [
  {
    title: "a container without /dev/net/tun on a kernel without WireGuard",
    broken: ["rm dev/net/tun"],
    is: "stops",
    says: /offers no WireGuard.*modprobe wireguard && .*pct set 101 --dev0 \/dev\/net\/tun,mode=0666/s,
  },
  {
    title: "a device that was passed and is gone since the host's start",
    broken: ["rm dev/net/tun"],
    options: { dev0: "/dev/net/tun,mode=0666" },
    is: "stops",
    says: /is passed to container 101 and is not there.*modprobe tun && echo tun.*pct reboot 101/s,
  },
  {
    title: "a TUN node that only root may open",
    broken: ["chmod 0660 dev/net/tun"],
    options: { dev0: "/dev/net/tun" },
    is: "stops",
    says: /may not open \/dev\/net\/tun \(root:root, mode 660\): Permission denied.*--dev0 \/dev\/net\/tun,mode=0666/s,
  },
  {
    title: "a unit that loads a module before it starts",
    broken: unit(
      "wg-quick@wg0.service",
      "failed",
      1,
      "modprobe: FATAL: Module tun not found in directory /lib/modules",
    ),
    is: "warns",
    says: /wg-quick@wg0\.service fails with 1: modprobe: FATAL.*only the host can.*systemctl edit wg-quick@wg0\.service/s,
  },
  {
    title: "a / that belongs to nobody",
    broken: ["chown nobody ."],
    is: "stops",
    says: /\/ belongs to nobody.*pct mount 101\n *chown 100000:100000 \/var\/lib\/lxc\/101\/rootfs/s,
  },
  {
    title: "systemd-tmpfiles that refuses such a path",
    broken: unit(
      "systemd-tmpfiles-setup.service",
      "failed",
      73,
      "Detected unsafe path transition / → /var during canonicalization",
    ),
    is: "stops",
    says: /fails with 73.*belongs to somebody else than root.*stat -c '%U %n'/s,
  },
  {
    title: "a unit that may not make namespaces",
    broken: unit("exitnode-agent.service", "activating", 226, "Failed at step NAMESPACE spawning /usr/bin/node"),
    is: "stops",
    says: /exitnode-agent\.service fails with 226.*needs nesting.*pct set 101 --features nesting=1 && pct reboot 101/s,
  },
  {
    title: "ssh.socket in sshd's place",
    broken: ["echo 'ssh.socket active' >> etc/exn-units"],
    is: "warns",
    says: /ssh\.socket owns port 22.*systemctl mask --now ssh\.socket/s,
  },
  {
    title: "a /tmp in memory, sized by the host's",
    broken: ["mount -o remount,size=12G tmp"],
    is: "warns",
    says: /may grow to 12288 MiB; the container has 512 MiB.*exitnode create --host pve1 --name home/s,
  },
  {
    title: "a container without ifupdown, and no address",
    broken: ["rm -f usr/sbin/ifup usr/bin/networkctl"],
    closed: true,
    is: "stops",
    says: /has no ifupdown.*appliance upload.*host-managed=1/s,
  },
  {
    title: "a container without a DHCP client, and no address",
    broken: ["rm -f usr/sbin/dhcpcd usr/bin/networkctl"],
    closed: true,
    is: "stops",
    says: /has no DHCP client.*dhcpcd-base/s,
  },
  {
    title: "an nft that may not",
    enter: "setpriv --inh-caps=-all --bounding-set=-net_admin chroot . sh -s",
    is: "stops",
    says: /nft does not work: .*not permitted.*modprobe -a nf_tables nft_masq nf_nat/s,
  },
  {
    title: "rules that another program threw out",
    broken: ["nft flush ruleset"],
    is: "warns",
    says: /not those of \/etc\/nftables\.conf.*exitnode create --host pve1 --name home/s,
  },
  {
    title: "a unit that calls the old iptables",
    broken: unit(
      "netfilter-persistent.service",
      "failed",
      1,
      "iptables v1.8.11 (legacy): can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
    ),
    is: "stops",
    says: /the old iptables.*modprobe -a nf_tables/s,
  },
  {
    title: "forwarding that is off, where /proc/sys can be written",
    broken: ["echo 0 > /proc/sys/net/ipv4/ip_forward"],
    is: "stops",
    says: /net\.ipv4\.ip_forward is 0.*exitnode create --host pve1/s,
  },
  {
    title: "forwarding that is off, with a read-only /proc/sys",
    broken: [
      "echo 0 > /proc/sys/net/ipv4/ip_forward",
      "mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys",
    ],
    is: "stops",
    says: /ip_forward is 0.*read-only in this container.*grep -n '\^lxc' \/etc\/pve\/lxc\/101\.conf/s,
  },
  {
    title: "a unit that sets what only the host may",
    broken: unit("kube-proxy.service", "failed", 1, "open /proc/sys/net/netfilter/nf_conntrack_max: permission denied"),
    is: "warns",
    says: /only the host may set that.*sysctl -w net\/netfilter\/nf_conntrack_max=VALUE/s,
  },
  {
    title: "IPv6 that was lost as forwarding was switched on",
    broken: ["echo 1 > /proc/sys/net/ipv6/conf/eth0/accept_ra", "ip -6 route del default dev eth0"],
    is: "warns",
    says: /eth0 has lost its IPv6: accept_ra is 1.*accept_ra=2/s,
  },
  {
    title: "a time service in a container",
    broken: unit("chrony.service", "failed", 1, "adjtimex(0x8001) failed : Operation not permitted"),
    is: "warns",
    says: /has the host's clock and may not set it.*systemctl mask --now chrony\.service/s,
  },
  {
    title: "a clock that is an hour off",
    aheadMs: 3_600_000,
    is: "stops",
    says: /clock is 3[56]\d\d s behind.*chronyc makestep/s,
  },
  {
    title: "a locale that is not there",
    broken: [roomFile("etc/default/locale", "LANG=xx_YY.UTF-8")],
    is: "warns",
    says: /xx_YY\.UTF-8 is wanted and is not there.*LANG=C\.UTF-8/s,
  },
  {
    title: "an apt proxy made of an empty variable",
    broken: [roomFile("etc/apt/apt.conf.d/00proxy", 'Acquire::http::Proxy "http://:3142";')],
    is: "warns",
    says: /a proxy that is none: "http:\/\/:3142".*grep -rn Proxy \/etc\/apt/s,
  },
  {
    title: "dpkg's lock, held by another program",
    broken: [
      '(exec flock var/lib/dpkg/lock-frontend sleep 3) >/dev/null 2>&1 & while ! grep -q ":$(stat -c %i var/lib/dpkg/lock-frontend) " /proc/locks; do :; done',
    ],
    is: "warns",
    says: /(?:flock|sleep) is installing or updating packages now/,
  },
  {
    title: "a daemon that is not up",
    broken: ["sed -i 's/^exitnode-coordinator active/exitnode-coordinator inactive/' etc/exn-units"],
    is: "stops",
    says: /exitnode-coordinator\.service is inactive.*exitnode logs home --host pve1 --unit coordinator/s,
  },
  {
    title: "a container that nothing in the Internet answers",
    broken: [roomFile("etc/exn-outside", "{}")],
    is: "stops",
    says: /reaches nobody in the Internet.*pct exec 101 -- ping -c 1 1\.1\.1\.1/s,
  },
  {
    title: "an agent that a coordinator refuses",
    broken: [
      roomFile(
        "etc/exn-agent",
        JSON.stringify({ ...AGENT, coordinator: { connected: false, refusal: "device-revoked" } }),
      ),
    ],
    is: "stops",
    says: /refuses this device: device-revoked/,
  },
  {
    title: "an agent that has lost its coordinator for two days",
    broken: [
      roomFile(
        "etc/exn-agent",
        JSON.stringify({
          ...AGENT,
          coordinator: { connected: false, reason: "no route", mapSeq: 1, mapAgeMs: 172_800_000 },
        }),
      ),
    ],
    is: "warns",
    says: /no route; its map is 2 days old.*revoked since are not known/s,
  },
];

/** What a namespace of this machine cannot show, as the script would print it. */
function printed(...lines: readonly string[]): Finding[] {
  const healthy = ["#exn-section# root", "root", "#exn-section# tun", "666 root:root", "#exn-section# sysctl"];
  const on = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map((key) => `/proc/sys/${key} rw 1`);
  const config = configReply({ net0: NET0, unprivileged: 1, memory: 512 });
  return containerFindings({
    container: { vmid: 101, node: "pve1", running: true, identity: IDENTITY, config },
    hostName: "pve1",
    symptoms: parseSymptoms([...healthy, ...on, ...lines].join("\n")),
    inside: undefined,
    kernel: undefined,
    wallMs: 0,
  }).filter(({ severity }) => severity !== "fine");
}

for (const { title, lines, says } of [
  {
    title: "a device without a driver behind it",
    lines: ["#exn-section# tunopen", "No such device"],
    says: /No such device.*no driver behind it.*modprobe tun/s,
  },
  {
    title: "a full table of connections",
    lines: ["/proc/sys/net/netfilter/nf_conntrack_count ro 65000", "/proc/sys/net/netfilter/nf_conntrack_max ro 65536"],
    says: /65000 connections are tracked, of 65536.*nf_conntrack_max=131072/s,
  },
  {
    title: "rules of the old iptables beside ours",
    lines: ["#exn-section# legacy", "nat", "filter", "nat"],
    says: /old iptables rules are in force as well \(table nat, filter\).*iptables-legacy-save/s,
  },
  {
    title: "processes killed for want of memory",
    lines: ["#exn-section# memory", "3"],
    says: /3 processes were killed.*pct set 101 --memory 1024/s,
  },
  { title: "a full disk", lines: ["#exn-section# disk", "97"], says: /97 % full.*pct resize 101 rootfs \+2G/s },
])
  test(`${title}: is recognised, with what mends it`, () => {
    assert.deepEqual(printed(), []);
    const [found, more] = printed(...lines);
    assert.match(`${found?.what}\n${found?.why}\n${found?.advice}`, says);
    assert.equal(more, undefined);
  });

test("a password of a proxy is not told", () => {
  const [found] = printed("#exn-section# apt", "http://me:word@:3142");
  assert.match(found?.what ?? "", /"http:\/\/…@:3142"/);
});

test("proxies that are some, and locales that differ in their spelling, are no trouble", () => {
  const proxies = ["http://10.0.0.2:3142", "http://[fd00::1]:3142/", "https://me:word@proxy.lan", "DIRECT"];
  assert.deepEqual(printed("#exn-section# apt", ...proxies), []);
  assert.deepEqual(printed("#exn-section# locale", "de_DE.UTF-8", "#exn-section# locales", "C", "de_DE.utf8"), []);
});

describe("inside a container", { skip: roomMissing }, () => {
  test("that is as it should be, nothing is found", async () => {
    const findings = await examine({});
    assert.deepEqual(
      findings.filter(({ severity }) => severity !== "fine"),
      [],
    );
    assert.ok(findings.length >= 8, "and what was looked at is told");
  });

  for (const { title, is, says, ...situation } of rows)
    test(`${title}: is recognised, with what mends it`, async () => {
      const wrong = (await examine(situation)).filter(({ severity }) => severity !== "fine");
      const found = wrong.find(({ severity, what, why = "", advice = "" }) =>
        severity === is ? says.test(`${what}\n${why}\n${advice}`) : false,
      );
      assert.ok(found !== undefined, JSON.stringify(wrong, null, 1));
    });
});
