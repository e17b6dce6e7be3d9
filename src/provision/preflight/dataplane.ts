import type { DataPlaneChoice } from "../spec.js";
import { type Finding, fine, onHost, stops, warns } from "./finding.js";

/** How /dev/net/tun gets into a container, where the kernel has no WireGuard. A token alone may not pass a device. */
export type TunWays = {
  /** The login is root@pam with its password. */
  readonly login: boolean;
  /** The entry names the host's sshd, where root runs `pct set`. */
  readonly shell: boolean;
  /** A container that root prepared once; its clones keep the device. */
  readonly source: number | undefined;
};

export type KernelNews = "brings" | "may" | "lacks";

/** WireGuard is in Linux since 5.6, as a module; every kernel of Proxmox's own has that module. */
export function kernelNews(kernel: string | undefined): KernelNews {
  if (kernel === undefined) return "may";
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  if (major < 5 || (major === 5 && minor < 6)) return "lacks";
  return kernel.endsWith("-pve") ? "brings" : "may";
}

export type DataPlaneWish = {
  readonly wanted: DataPlaneChoice;
  readonly kernel: string | undefined;
  readonly ways: TunWays;
  readonly hostName: string;
};

export function dataPlaneFinding(wish: DataPlaneWish): Finding {
  const { wanted, kernel, ways } = wish;
  const name = "data plane";
  const news = kernelNews(kernel);
  const open = openWays(ways);
  const through = `userspace through /dev/net/tun, ${open.join(", or ")}`;
  const of = kernel === undefined ? "the host's kernel (which this login may not see)" : `kernel ${kernel}`;
  if (wanted !== "userspace" && news === "brings") return fine(name, `WireGuard of ${of}`);
  if (wanted === "kernel" && news === "lacks")
    return stops(name, "data-plane-unavailable", `${of} has no WireGuard`, { advice: onHost("apt full-upgrade") });
  if (wanted !== "kernel" && open.length > 0)
    return fine(
      name,
      wanted === "userspace" || news === "lacks" ? through : `WireGuard of ${of} if it has it, else ${through}`,
    );
  if (wanted === "userspace" || news === "lacks")
    return stops(
      name,
      "data-plane-unavailable",
      `nothing here may pass /dev/net/tun to a container, and ${wanted === "userspace" ? "a userspace data plane needs it" : `${of} has no WireGuard`}`,
      {
        advice: waysAdvice(wish),
      },
    );
  return warns(name, `whether ${of} has WireGuard shows inside a container only`, {
    why:
      wanted === "kernel"
        ? "nothing else was asked for"
        : "without it, /dev/net/tun is needed, and nothing here may pass it",
    advice: wanted === "kernel" ? onHost(MODULE) : waysAdvice(wish),
  });
}

export const MODULE = "modprobe wireguard && echo wireguard > /etc/modules-load.d/wireguard.conf";

function openWays({ login, shell, source }: TunWays): string[] {
  return [
    ...(login ? ["which root@pam may pass"] : []),
    ...(shell && !login ? ["which pct passes over SSH to the host"] : []),
    ...(source !== undefined && !login && !shell ? [`which clones of container ${source} have`] : []),
  ];
}

/** All ways there are, from the one that needs least. */
export function waysAdvice({ hostName, wanted }: { readonly hostName: string; readonly wanted?: string }): string {
  const ways = [
    ...(wanted === "userspace" ? [] : [["WireGuard in the host's kernel; on the Proxmox host, as root:", MODULE]]),
    [`pct over SSH, as root of the host: exitnode host add ${hostName} --ssh-jump root@HOST`],
    [
      "a container that root prepares once with our template and key; new ones are cloned from it:",
      ...sourceLines(),
      `then write tunSource: ${SOURCE_EXAMPLE} under hosts.${hostName}.defaults of config.yaml`,
    ],
    [`a root@pam login, kept: exitnode host add ${hostName} --user root@pam`],
  ];
  const numbered = ways.map((lines, i) => lines.map((line, at) => (at === 0 ? `${i + 1}. ${line}` : `   ${line}`)));
  return ["any one of these:", ...numbered.flat()].join("\n");
}

const SOURCE_EXAMPLE = 900;

const sourceLines = (): string[] => [
  `pct create ${SOURCE_EXAMPLE} local:vztmpl/TEMPLATE --hostname exitnode-source --unprivileged 1 \\`,
  "  --features nesting=1 --dev0 /dev/net/tun,mode=0666 --rootfs STORAGE:4 --memory 512 --swap 0 \\",
  "  --net0 name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto --ssh-public-keys ssh_ed25519.pub",
  `pct template ${SOURCE_EXAMPLE}`,
];
