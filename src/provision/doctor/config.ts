import type { Ip } from "../../kit/ip.js";
import type { Storage } from "../../pve/guests.js";
import { type Finding, fine, onHost, stops, warns } from "../preflight/finding.js";
import { snapshotFinding } from "../preflight/storage.js";
import type { OwnContainer } from "../view.js";
import { createAgain } from "./examined.js";

/** One exit node's container as Proxmox tells of it, from outside. */
export type Described = {
  readonly container: OwnContainer;
  readonly hostName: string;
  /** user@realm, or user@realm!token. */
  readonly login: string;
  /** Undefined while it does not run. */
  readonly addresses: readonly Ip[] | undefined;
  readonly storages: readonly Storage[];
  /** Undefined when the login may not ask. */
  readonly canSnapshot: boolean | undefined;
};

/** What Proxmox's configuration and state of a container give away, the likeliest cause first. */
export function configFindings(described: Described): Finding[] {
  return [
    ...lockFindings(described),
    ...tunFindings(described),
    ...featureFindings(described),
    ...runningFindings(described),
    ...addressFindings(described),
    ...saveFindings(described),
  ];
}

function lockFindings({ container: { vmid, config } }: Described): Finding[] {
  if (config.lock === undefined) return [];
  return [
    warns("lock", `container ${vmid} is locked: ${config.lock}`, {
      why: `a ${config.lock} is under way, or one was cut off and left the lock: nothing can be changed meanwhile`,
      advice: `wait for it; if the tasks in the Proxmox GUI show none\n${onHost(`pct unlock ${vmid}`)}`,
    }),
  ];
}

const TUN_LINE = /^lxc\.mount\.entry: .*\bdev\/net\/tun\b/;

/** Both ways make the same node, and the second one fails: LXC's hook ends with 17, EEXIST. */
function tunFindings({ container: { vmid, config } }: Described): Finding[] {
  const lines = config.lxc ?? [];
  const tun = lines.some((line) => TUN_LINE.test(line));
  const device = Object.entries(config.options).find(
    ([key, value]) => /^dev\d+$/.test(key) && value.includes("/dev/net/tun"),
  );
  if (!tun || device === undefined) return [];
  return [
    stops(
      "TUN device",
      "tun-twice",
      `/dev/net/tun is passed to container ${vmid} twice: as ${device[0]}, and by an lxc.mount.entry line`,
      {
        why: "the container does not start: the second finds the first one's node",
        advice: onHost(
          `sed -i '/^lxc\\.mount\\.entry: .*dev\\/net\\/tun/d; /^lxc\\.cgroup2\\?\\.devices\\.allow: c 10:200/d' /etc/pve/lxc/${vmid}.conf`,
          `pct start ${vmid}`,
        ),
      },
    ),
  ];
}

function featureFindings({ container: { vmid, config }, login }: Described): Finding[] {
  const features = (config.options.features ?? "").split(",").filter((part) => part !== "" && !part.endsWith("=0"));
  const rootOnly = features.filter((part) => part !== "nesting=1");
  return [
    ...(features.includes("nesting=1")
      ? [fine("nesting", "on")]
      : [
          stops("nesting", "nesting-off", `container ${vmid} has no nesting, and systemd of Debian 13 needs it`, {
            why: "units that are shut in fail with 226/NAMESPACE, and logins take 25 s",
            advice: onHost(`pct set ${vmid} --features nesting=1 && pct reboot ${vmid}`),
          }),
        ]),
    ...(rootOnly.length === 0 || login === "root@pam"
      ? []
      : [
          warns("features", `container ${vmid} has ${rootOnly.join(", ")}, which only root@pam may set`, {
            why: `${login} can neither restore nor clone it, and no token can, not even root's; an exit node needs none of it`,
            advice: onHost(`pct set ${vmid} --features nesting=1`),
          }),
        ]),
  ];
}

function runningFindings(described: Described): Finding[] {
  const { container } = described;
  if (container.running) return [fine("container", "runs")];
  return [
    stops("container", "container-stopped", `container ${container.vmid} does not run`, {
      advice: createAgain(described),
    }),
  ];
}

const isLinkLocal = (ip: Ip): boolean => ip.startsWith("fe80:") || ip.startsWith("169.254.");

function addressFindings(described: Described): Finding[] {
  const { container, addresses } = described;
  const { vmid, config } = container;
  if (addresses === undefined) return [];
  const net = new Map((config.options.net0 ?? "").split(",").map((part) => [part.split("=")[0], part.split("=")[1]]));
  const tag = net.get("tag");
  const where = `${net.get("bridge") ?? "its bridge"}${tag === undefined ? "" : `, VLAN ${tag}`}`;
  const usable = addresses.filter((ip) => !isLinkLocal(ip));
  const v4 = usable.some((ip) => ip.includes("."));
  const fixed = "or give it one: exitnode destroy NAME, then exitnode create --ip 192.168.1.5/24 --gateway 192.168.1.1";
  const look = onHost(`pct exec ${vmid} -- ip address show eth0`, `pct exec ${vmid} -- systemctl status networking`);
  if (net.get("link_down") === "1")
    return [
      stops("address", "link-down", `the network card of container ${vmid} is unplugged (link_down=1)`, {
        advice: onHost(`pct set ${vmid} --net0 '${config.options.net0?.replace(/,?link_down=1/, "")}'`),
      }),
    ];
  if (usable.length === 0)
    return [
      addresses.length === 0
        ? stops("address", "address-missing", `container ${vmid} runs and has no address at all on ${where}`, {
            why: "its network was not set up: a template without ifupdown or a DHCP client, or a bridge that is not the LAN's",
            advice: look,
          })
        : stops("address", "address-link-local", `container ${vmid} has only ${addresses.join(", ")} on ${where}`, {
            why: "nobody there answered its DHCP request, nor sent router advertisements",
            advice: `is the DHCP server on ${where}?\n${look}\n${fixed}`,
          }),
    ];
  if (!v4 && net.get("ip") === "dhcp")
    return [
      warns("address", `container ${vmid} has no IPv4 address: nobody answers DHCP on ${where}`, {
        why: "it reaches nothing but IPv6",
        advice: `${look}\n${fixed}`,
      }),
    ];
  return [fine("address", usable[0] ?? "")];
}

function saveFindings({ container, canSnapshot, storages }: Described): Finding[] {
  if (canSnapshot === undefined) return [];
  if (canSnapshot) return [fine("snapshots", "can be taken")];
  return snapshotFinding(storages, container.config.options.rootfs?.split(":")[0]);
}
