import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Failure } from "../../src/kit/failure.js";
import type { Ran } from "../../src/sys/exec.js";
import type { Ssh } from "../../src/sys/ssh.js";

/** Why a room cannot be had here; undefined when it can. */
export const roomMissing =
  process.getuid?.() !== 0
    ? "needs root to make namespaces"
    : existsSync("/usr/sbin/nft")
      ? undefined
      : "needs the Debian package nftables";

/** What systemd would say, from a file; and a Node that says what the daemons would. */
const SYSTEMCTL = `#!/bin/sh
units=/etc/exn-units
case "$1 $*" in
  is-active*) shift; for name; do state=$(awk -v name="\${name%.service}" '$1 == name { print $2 }' $units); echo "\${state:-inactive}"; done ;;
  list-units*failed*) awk '$2 == "failed" { print $1, "loaded failed failed" }' $units ;;
  list-units*activating*) awk '$2 == "activating" { print $1, "loaded activating auto-restart" }' $units ;;
  show*) awk -v name="$4" '$1 == name { print $3 }' $units ;;
  is-system-running*) echo running ;;
esac`;
const JOURNALCTL = `#!/bin/sh\ncat "/etc/exn-journal-$2" 2>/dev/null`;
/** As LOOK_PROGRAM tells, its first argument being a section's mark. */
const NODE = `#!/bin/sh\nfor name in outside agent; do echo "$3 $name"; cat "/etc/exn-$name"; done`;

const file = (path: string, content: string, mode = "0644"): string =>
  `mkdir -p $(dirname ${path}); cat > ${path} <<'ENDOFFILE'\n${content}\nENDOFFILE\nchmod ${mode} ${path}`;

export const AGENT = {
  version: "0.1.0",
  name: "home",
  role: "exit-node",
  addresses: ["100.64.0.1"],
  dataPlane: "userspace",
  interface: "exn0",
  listenPort: 51_820,
  coordinator: { url: "https://127.0.0.1:443", connected: true, mapSeq: 3, mapAgeMs: 1_000 },
  peers: [],
  warnings: [],
};

/** A container that is as it should be. */
const HEALTHY = [
  "mknod -m 0666 dev/net/tun c 10 200",
  "ip link set lo up",
  "ip link add eth0 type veth peer name p0",
  "echo 2 > /proc/sys/net/ipv6/conf/eth0/accept_ra",
  "echo 1 > /proc/sys/net/ipv4/ip_forward",
  "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
  "ip link set eth0 up; ip link set p0 up",
  "ip -6 address add 2001:db8::5/64 dev eth0 nodad",
  "ip -6 route add default via fe80::1 dev eth0",
  "mount -t tmpfs -o size=64M tmpfs tmp",
  "echo 'exitnode:x:64000:64000::/:/bin/sh' >> etc/passwd; echo 'exitnode:x:64000:' >> etc/group",
  file("usr/bin/systemctl", SYSTEMCTL, "0755"),
  file("usr/bin/journalctl", JOURNALCTL, "0755"),
  file("usr/bin/node", NODE, "0755"),
  file("etc/exn-units", "exitnode-agent active\nexitnode-coordinator active\nssh active\nnftables active"),
  file("etc/exn-outside", '{"ipv4":"203.0.113.10"}'),
  file("etc/exn-agent", JSON.stringify(AGENT)),
  "for name in ifup dhcpcd; do printf '#!/bin/sh\\n' > usr/sbin/$name; chmod 755 usr/sbin/$name; done",
  file("etc/default/locale", "LANG=C.UTF-8"),
  "rm -f etc/apt/apt.conf; find etc/apt/apt.conf.d -type f -delete",
  "mount -t tmpfs tmpfs var/lib/dpkg; touch var/lib/dpkg/lock-frontend",
  file(
    "etc/nftables.conf",
    "flush ruleset\ntable inet exitnode { chain forward { type filter hook forward priority 0; policy drop; }; }",
  ),
  "nft -f etc/nftables.conf",
];

/** Everything in the room ends with the shell that made it. */
const MAKE = (folder: string, lines: readonly string[], enter: string): string =>
  [
    "set -e",
    "mount --make-rprivate /",
    `mount -t tmpfs tmpfs ${folder}`,
    `mkdir ${folder}/up ${folder}/work ${folder}/root`,
    `mount -t overlay overlay -o lowerdir=/,upperdir=${folder}/up,workdir=${folder}/work ${folder}/root`,
    `cd ${folder}/root`,
    "mount --rbind /proc proc",
    "mount -t tmpfs tmpfs dev; mkdir dev/net; cp -a /dev/null /dev/zero /dev/urandom dev/",
    "mount -t tmpfs tmpfs run",
    ...lines,
    `exec ${enter}`,
  ].join("\n");

/**
 * The inside of a container without the container: this machine's files under an overlay, in mount, network,
 * and host name namespaces of its own, where anything may be broken. Each run makes it anew and leaves nothing.
 */
export class Room {
  readonly #lines: readonly string[];
  readonly #enter: string;

  constructor(broken: readonly string[] = [], enter = "chroot . sh -s") {
    this.#lines = [...HEALTHY, ...broken];
    this.#enter = enter;
  }

  async run(script: string): Promise<Ran> {
    const folder = mkdtempSync(join(tmpdir(), "exn-d-room-"));
    try {
      const child = spawn("unshare", ["-mnu", "sh", "-c", MAKE(folder, this.#lines, this.#enter)], {
        stdio: ["pipe", "pipe", "pipe"],
      });
      const ended = new Promise<number>((resolve) => child.on("close", (code) => resolve(code ?? 1)));
      child.stdin.on("error", () => {});
      child.stdin.end(script);
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
      return { exitCode: await ended, stdout, stderr };
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** As SSH would let a script in. */
  open(): Ssh {
    return {
      run: (argv, options = {}) => {
        if (argv.join(" ") !== "sh -s") throw new Failure("exec-failed", `the room does not run ${argv.join(" ")}`);
        return this.run(String(options.input ?? ""));
      },
      push: () => Promise.reject(new Error("nothing is pushed by a look")),
      close() {},
    };
  }
}

/** A file with that content, as a line for a room. */
export const roomFile = file;
