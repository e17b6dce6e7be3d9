import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import type { Finding } from "../../src/provision/preflight/finding.js";
import { Room, roomFile, roomMissing } from "../provision/room.js";
import { DoctorWorld, patientClock, type Situation, upid } from "./doctorworld.js";

/** A Proxmox host over HTTPS that shows what real ones showed, and the doctor that is to know it. */
let world: DoctorWorld;
async function open(situation: Situation = {}): Promise<void> {
  world = new DoctorWorld();
  await world.open(situation);
}
afterEach(() => world?.close());

type Row = Situation & {
  readonly title: string;
  readonly is: "stops" | "warns";
  readonly says: RegExp;
  /** The first thing said is this. */
  readonly first?: true;
};

const NODE_STATUS = { kversion: "Linux 6.18.4-1-pve #1 SMP", pveversion: "pve-manager/9.2.11" };
const conf = (...lines: string[]): string => roomFile("etc/pve/nodes/pve1/lxc/101.conf", lines.join("\n"));
const ETHTOOL = (...lines: string[]): string[] => [
  "mkdir -p sys/class/net/eno1/brport sys/class/net/eno1/device; ln -s ../../vmbr0 sys/class/net/eno1/brport/bridge",
  `printf '#!/bin/sh\\nprintf "%%s\\\\n" "${lines.join('" "')}"\\n' > usr/sbin/ethtool; chmod 755 usr/sbin/ethtool`,
];
const MODULES = [
  "mkdir -p sys/module/tun sys/module/wireguard",
  roomFile("etc/modules-load.d/x.conf", "wireguard\ntun"),
];
const onNode = (...broken: readonly string[]): NonNullable<Situation["look"]> => {
  const room = new Room(["hostname pve1", ...MODULES, ...broken]);
  return { hostShell: async () => room.open() };
};
const closed = async (): Promise<never> => {
  throw new Failure("ssh-refused", "10.0.0.5 refuses connections on port 22", { advice: "pct exec" });
};

const rows: readonly Row[] = [
  {
    title: "lines for LXC that landed in a snapshot's section",
    look: onNode(
      conf(
        "features: nesting=1",
        "[before]",
        "memory: 512",
        "lxc.cgroup2.devices.allow: c 10:200 rwm",
        "lxc.mount.entry: /dev/net/tun dev/net/tun none bind,create=file",
      ),
    ),
    is: "warns",
    says: /2 lxc lines of container 101 stand under \[before\].*sed -i '4d; 5d' \/etc\/pve\/nodes\/pve1\/lxc\/101\.conf/s,
  },
  {
    title: "/dev/net/tun that is passed twice",
    status: "stopped",
    config: {
      dev0: "/dev/net/tun",
      lxc: [["lxc.mount.entry", "/dev/net/tun dev/net/tun none bind,create=file"]],
    },
    is: "stops",
    says: /passed to container 101 twice: as dev0, and by an lxc\.mount\.entry line.*sed -i.*101\.conf\npct start 101/s,
  },
  {
    title: "the start that fails for it",
    status: "stopped",
    failed: [
      {
        upid: upid("vzstart", 101),
        status: "startup for container '101' failed",
        log: ["run_buffer: 571 Script exited with status 17", "lxc_setup: 4437 Failed to run autodev hooks"],
      },
    ],
    is: "stops",
    says: /startup for container '101' failed.*passed twice.*pct start 101/s,
    first: true,
  },
  {
    title: "a start that fails because the host has no TUN device",
    status: "stopped",
    failed: [{ upid: upid("vzstart", 101), status: "Device /dev/net/tun does not exist" }],
    is: "stops",
    says: /the host has no \/dev\/net\/tun.*modprobe tun/s,
    first: true,
  },
  {
    title: "features that only root@pam may set",
    config: { features: "nesting=1,keyctl=1" },
    is: "warns",
    says: /has keyctl=1, which only root@pam may set.*can neither restore nor clone.*pct set 101 --features nesting=1$/s,
  },
  {
    title: "a token of root's, on a kernel that may lack WireGuard",
    login: "root@pam!cli",
    data: { "/nodes/pve1/status": { ...NODE_STATUS, kversion: "Linux 6.1.0-32-amd64 #1" } },
    is: "warns",
    says: /root@pam!cli is a token, and to Proxmox no token is root.*--user root@pam/s,
  },
  {
    title: "a token without rights of its own",
    rights: { "/": ["VM.Audit"] },
    is: "stops",
    says: /lacks VM\.Allocate.*pveum acl modify \/vms --roles ExitnodeGuests/s,
    first: true,
  },
  {
    title: "a task that ended in a time-out",
    failed: [
      { upid: upid("vzstop", 101), status: "can't lock file '/run/lock/lxc/pve-config-101.lock' - got timeout" },
    ],
    is: "warns",
    says: /busy with another task.*run the command again/s,
  },
  {
    title: "a number that two took at once",
    failed: [{ upid: upid("vzcreate", 105), status: "unable to create CT 105 - CT 105 already exists on node 'pve1'" }],
    is: "warns",
    says: /the number 105 was taken at the same moment.*next free one/s,
  },
  {
    title: "a lock that a crash left",
    config: { lock: "snapshot" },
    is: "warns",
    says: /container 101 is locked: snapshot.*pct unlock 101/s,
  },
  {
    title: "a Proxmox that does not know Debian 13.1",
    empty: true,
    data: {
      "/nodes/pve1/apt/versions": [{ Package: "pve-container", Version: "6.0.9", CurrentState: "Installed" }],
    },
    is: "stops",
    says: /pve-container 6\.0\.9, expected 6\.0\.10.*apt full-upgrade/s,
    first: true,
  },
  {
    title: "a create that failed for it",
    empty: true,
    failed: [{ upid: upid("vzcreate", 101), status: "unsupported debian version '13.1'" }],
    is: "warns",
    says: /pve-container does not know Debian 13\.1.*apt full-upgrade/s,
  },
  {
    title: "a container without nesting",
    config: { features: "keyctl=0" },
    is: "stops",
    says: /has no nesting.*226\/NAMESPACE.*pct set 101 --features nesting=1 && pct reboot 101/s,
  },
  {
    title: "a container that no DHCP server answered",
    addresses: ["fe80::1"],
    is: "stops",
    says: /has only fe80::1 on vmbr0.*nobody there answered its DHCP request.*--ip 192\.168\.1\.5\/24/s,
    first: true,
  },
  {
    title: "a container whose network was not set up",
    addresses: [],
    is: "stops",
    says: /no address at all on vmbr0.*without ifupdown or a DHCP client.*pct exec 101 -- systemctl status networking/s,
  },
  {
    title: "a container with IPv6 alone, where IPv4 was asked for",
    addresses: ["2001:db8::5", "fe80::1"],
    is: "warns",
    says: /no IPv4 address: nobody answers DHCP on vmbr0/,
  },
  {
    title: "a network card that is unplugged",
    config: { net0: "name=eth0,bridge=vmbr0,ip=dhcp,link_down=1" },
    addresses: [],
    is: "stops",
    says: /unplugged \(link_down=1\).*--net0 'name=eth0,bridge=vmbr0,ip=dhcp'/s,
  },
  {
    title: "a kernel without WireGuard",
    data: { "/nodes/pve1/status": { ...NODE_STATUS, kversion: "Linux 5.4.203-1-pve #1" } },
    look: { openSsh: async () => new Room(["rm dev/net/tun"]).open() },
    is: "stops",
    says: /kernel 5\.4\.203-1-pve offers no WireGuard.*as root:\npct set 101 --dev0/s,
    first: true,
  },
  {
    title: "a module that is not loaded on the host",
    look: onNode("rm -r sys/module/wireguard"),
    is: "warns",
    says: /the module wireguard is not loaded.*modprobe wireguard && echo wireguard/s,
  },
  {
    title: "a module that nothing loads at the host's next start",
    look: onNode(roomFile("etc/modules-load.d/x.conf", "# wireguard")),
    is: "warns",
    says: /wireguard is loaded now, and nothing loads it at the host's next start.*modules-load\.d\/wireguard\.conf/s,
  },
  {
    title: "a container that does not start with the host",
    config: { onboot: 0 },
    is: "warns",
    says: /does not start with the host.*exitnode create --host pve1 --name home/s,
  },
  {
    title: "a container that does not run",
    status: "stopped",
    is: "stops",
    says: /container 101 does not run.*exitnode create --host pve1 --name home/s,
  },
  {
    title: "a network card that could hand datagrams on in bundles",
    look: onNode(...ETHTOOL("rx-udp-gro-forwarding: off", "rx-gro-list: off")),
    is: "warns",
    says: /eno1 \(vmbr0\) could hand.*nothing is broken.*ethtool -K eno1 rx-udp-gro-forwarding on/s,
  },
  {
    title: "a kernel whose cards segment UDP slowly, seen from outside",
    data: { "/nodes/pve1/status": { ...NODE_STATUS, kversion: "Linux 7.0.2-1-pve #1" } },
    is: "warns",
    says: /with kernel 7\.0\.2-1-pve.*ethtool -K PORT tx-udp-segmentation off/s,
  },
  {
    title: "a host whose clock is wrong",
    look: { clock: { ...patientClock, wall: () => Date.now() + 600_000 } },
    is: "stops",
    says: /clock is 6\d\d s behind.*chronyc makestep/s,
  },
  {
    title: "a container that can be neither snapshot nor backed up",
    data: {
      "/nodes/pve1/lxc/101/feature": { hasFeature: 0 },
      "/nodes/pve1/storage": [
        { storage: "local", type: "dir", content: "vztmpl", active: 1, avail: 20e9, total: 90e9 },
        { storage: "tank", type: "dir", content: "rootdir", active: 1, avail: 60e9, total: 90e9 },
      ],
    },
    is: "warns",
    says: /tank \(dir\) takes none, and no storage holds backups.*pvesm set local --content/s,
  },
  {
    title: "a snapshot task on a storage that takes none",
    failed: [{ upid: upid("vzsnapshot", 101), status: "snapshot feature is not available" }],
    is: "warns",
    says: /the storage takes none.*exitnode upgrade {4}\(makes a backup or a copy/s,
  },
  {
    title: "no room for an upload",
    empty: true,
    data: { "/nodes/pve1/status": { ...NODE_STATUS, rootfs: { avail: 1_000_000 } } },
    look: {
      appliance: async () => ({
        path: "/cache/a",
        name: "debian-13-exitnode_2.0.0-1_amd64.tar.zst",
        sizeBytes: 60_000_000,
        unpackedBytes: 1,
        sha512: "00",
      }),
    },
    is: "stops",
    says: /an upload of 0\.1 GiB goes through \/var\/tmp.*journalctl --vacuum-size/s,
  },
  {
    title: "a Proxmox firewall that lets nobody in",
    config: { net0: "name=eth0,bridge=vmbr0,ip=dhcp,firewall=1" },
    data: {
      "/cluster/firewall/options": { enable: 1 },
      "/nodes/pve1/lxc/101/firewall/options": { enable: 1 },
      "/nodes/pve1/lxc/101/firewall/rules": [],
    },
    is: "warns",
    says: /firewall keeps traffic from container 101.*--dport 51820 --enable 1/s,
  },
  {
    title: "a template that holds device nodes",
    empty: true,
    failed: [
      {
        upid: upid("vzcreate", 106),
        status: "command 'lxc-usernsexec … tar xpf -' failed: exit code 2",
        log: ["tar: ./var/spool/postfix/dev/random: Cannot mknod: Operation not permitted"],
      },
    ],
    is: "warns",
    says: /the template holds device nodes.*exitnode appliance build/s,
  },
  {
    title: "a container that SSH does not get into, looked at through pct",
    look: {
      openSsh: closed,
      hostShell: async () => {
        const node = new Room(MODULES).open();
        const inside = new Room(["rm -f usr/sbin/ifup usr/bin/networkctl"]).open();
        return {
          ...node,
          run: async (argv, options) => {
            if (argv[0] === "pct") return inside.run(argv.slice(4), options);
            const ran = await node.run(argv, options);
            return { ...ran, stdout: ran.stdout.replace(/(#exn-section# name\n).*/, "$1pve1") };
          },
        };
      },
    },
    is: "stops",
    says: /has no ifupdown/,
  },
];

const troubles = async (): Promise<Finding[]> => (await world.examine()).filter(({ severity }) => severity !== "fine");

describe("a Proxmox host", { skip: roomMissing }, () => {
  test("that is as it should be, with an exit node that is, has nothing found", async () => {
    await open({ look: onNode() });
    assert.deepEqual(await troubles(), []);
    await world.close();
    await open({ empty: true });
    assert.deepEqual(await troubles(), []);
  });

  for (const { title, is, says, first, ...situation } of rows)
    test(`${title}: is recognised, with what mends it`, async () => {
      await open(situation);
      const found = await troubles();
      const matches = ({ severity, what, why = "", advice = "" }: Finding): boolean =>
        severity === is && says.test(`${what}\n${why}\n${advice}`);
      assert.ok(found.some(matches), JSON.stringify(found, null, 1));
      if (first) assert.ok(found[0] !== undefined && matches(found[0]), JSON.stringify(found, null, 1));
    });
});
