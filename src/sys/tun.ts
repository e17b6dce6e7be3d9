import { Failure } from "../kit/failure.js";
import { Arena } from "./arena.js";
import { ERRNO, errnoName, type Libc, O_CLOEXEC, O_NONBLOCK, O_RDWR } from "./libc.js";

/** <linux/if_tun.h> */
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUNSETOFFLOAD = 0x400454d0;
const TUN_F_CSUM = 0x01;
const TUN_F_TSO4 = 0x02;
const TUN_F_TSO6 = 0x04;
const TUN_F_USO4 = 0x20;
const TUN_F_USO6 = 0x40;
const IFREQ_BYTES = 40;
/** IFNAMSIZ less the terminating zero. */
const INTERFACE_NAME_MAX = 15;

const TUN_PATH = "/dev/net/tun";

/** Every packet on the descriptor has a virtio-net header before it. */
export type Tun = {
  readonly fd: number;
  /** TCP comes and goes in packets of many segments. */
  readonly tso: boolean;
  /** UDP as well (Linux 6.2). */
  readonly uso: boolean;
};

/** Opens the TUN device of that name, making it when there is none; it lives until the descriptor is closed. */
export function openTun(libc: Libc, name: string, want: { tso: boolean; uso: boolean }): Tun {
  if (name.length === 0 || name.length > INTERFACE_NAME_MAX)
    throw new Failure("interface-name", `an interface name must have 1 to ${INTERFACE_NAME_MAX} characters: "${name}"`);
  const fd = libc.open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw tunFailure(libc.errno(), name);
  const arena = new Arena(libc, IFREQ_BYTES);
  arena.bytes.set(new TextEncoder().encode(name));
  arena.view.setUint16(16, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true);
  if (libc.ioctl(fd, TUNSETIFF, arena.base) < 0) {
    const failure = tunFailure(libc.errno(), name);
    libc.close(fd);
    throw failure;
  }
  // The argument of this one is the number itself, not an address.
  const offload = (flags: number): boolean => libc.ioctl(fd, TUNSETOFFLOAD, flags) === 0;
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  const uso = want.tso && want.uso && offload(tcp | TUN_F_USO4 | TUN_F_USO6);
  return { fd, uso, tso: uso || (want.tso && offload(tcp)) };
}

export function tunFailure(errno: number, name: string): Failure {
  switch (errno) {
    case ERRNO.ENOENT:
    case ERRNO.ENODEV:
    case ERRNO.ENXIO:
    case ERRNO.EACCES:
      return new Failure("tun-missing", `no ${TUN_PATH} that can be opened here (${errnoName(errno)})`, {
        advice:
          "in an unprivileged Proxmox container, root@pam gives it the device: pct set VMID --dev0 /dev/net/tun; " +
          "elsewhere: modprobe tun",
      });
    case ERRNO.EPERM:
      return new Failure("tun-forbidden", `making the interface ${name} needs CAP_NET_ADMIN`, {
        advice: "run as root, or give the service AmbientCapabilities=CAP_NET_ADMIN",
      });
    case ERRNO.EBUSY:
      return new Failure("tun-busy", `the interface ${name} is in use by another program`, {
        advice: `see who holds it: ip -details link show ${name}`,
      });
    case ERRNO.EINVAL:
      return new Failure("tun-name-taken", `${name} exists and is no TUN interface`, {
        advice: `choose another name, or remove it: ip link delete ${name}`,
      });
    default:
      return new Failure("tun-failed", `cannot make the interface ${name}: ${errnoName(errno)}`);
  }
}
