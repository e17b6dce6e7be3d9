import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** A container made from a template as Proxmox makes one: unprivileged, 512 MB, systemd as process 1, no network. */
const ID_BASE = 100_000;
const MAP = ["-m", `u:0:${ID_BASE}:65536`, "-m", `g:0:${ID_BASE}:65536`, "--"];
const BOOT_TIMEOUT_MS = 180_000;
/** LXC uses newuidmap where it finds it, and that insists on an entry for root in /etc/subuid. Root needs no help. */
const PATH = "/usr/sbin:/usr/bin:/sbin:/bin";
const env = { PATH: "/nonexistent", LC_ALL: "C" };

export type Ran = { readonly exitCode: number; readonly stdout: string };

export class Container {
  readonly root: string;
  readonly #folder: string;
  readonly #name: string;

  constructor(name: string, template: string) {
    this.#name = name;
    this.#folder = mkdtempSync(`/var/tmp/${name}-`);
    chmodSync(this.#folder, 0o755);
    this.root = join(this.#folder, "root");
    mkdirSync(this.root);
    chownSync(this.root, ID_BASE, ID_BASE);
    const unpacker = template.endsWith(".xz") ? "/usr/bin/xz" : "/usr/bin/zstd";
    const tar = ["/usr/bin/tar", "-xpf", "-", "-I", unpacker, "--numeric-owner", "-C", this.root];
    execFileSync("/usr/bin/lxc-usernsexec", [...MAP, ...tar], { env, input: readFileSync(template) });
    // What Proxmox does to a new container: its name, its host key, and no machine id, so that this is a first boot.
    this.write("/etc/hostname", `${name}\n`);
    rmSync(join(this.root, "etc/machine-id"), { force: true });
    const key = join(this.#folder, "key");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
    this.write("/etc/ssh/ssh_host_ed25519_key", readFileSync(key), 0o600);
  }

  /** Owned by the container's root. */
  write(path: string, content: string | Uint8Array, mode = 0o644): void {
    const full = join(this.root, path);
    mkdirSync(join(full, ".."), { recursive: true });
    writeFileSync(full, content, { mode });
    chownSync(full, ID_BASE, ID_BASE);
  }

  /** Starts it and waits until systemd has settled; the answer is what it says of itself. */
  boot(): string {
    const v2 = existsSync("/sys/fs/cgroup/cgroup.controllers");
    const memory = v2 ? "lxc.cgroup2.memory.max = 536870912" : "lxc.cgroup.memory.limit_in_bytes = 536870912";
    const config = [
      `lxc.uts.name = ${this.#name}`,
      `lxc.rootfs.path = dir:${this.root}`,
      `lxc.idmap = u 0 ${ID_BASE} 65536`,
      `lxc.idmap = g 0 ${ID_BASE} 65536`,
      `lxc.apparmor.profile = ${existsSync("/sys/kernel/security/apparmor/profiles") ? "generated" : "unconfined"}`,
      "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp",
      "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio",
      "lxc.mount.auto = proc:mixed sys:mixed",
      "lxc.autodev = 1",
      "lxc.tty.max = 2",
      "lxc.pty.max = 64",
      "lxc.signal.halt = SIGRTMIN+3",
      "lxc.init.cmd = /sbin/init",
      "lxc.net.0.type = empty",
      memory,
    ];
    writeFileSync(join(this.#folder, "config"), `${config.join("\n")}\n`);
    const argv = ["-P", this.#folder, "-n", this.#name, "-f", join(this.#folder, "config"), "-d"];
    execFileSync("/usr/bin/lxc-start", argv, { env });
    const until = Date.now() + BOOT_TIMEOUT_MS;
    for (;;) {
      const said = this.run(["systemctl", "is-system-running", "--wait"], BOOT_TIMEOUT_MS).stdout.trim();
      // Until systemd has made its folder in /run, it does not run to systemctl.
      if (said !== "offline" || Date.now() > until) return said;
    }
  }

  run(argv: readonly string[], timeoutMs = BOOT_TIMEOUT_MS): Ran {
    const until = Date.now() + timeoutMs;
    for (;;) {
      const into = ["-P", this.#folder, "-n", this.#name, "--clear-env", "--set-var", `PATH=${PATH}`, "--", ...argv];
      const ran = spawnSync("/usr/bin/lxc-attach", into, { env, encoding: "utf8", timeout: timeoutMs });
      // In the first moment there is no bus to ask.
      const early = /Failed to connect to (?:system scope )?bus/.test(ran.stderr);
      if (early && Date.now() < until) continue;
      return { exitCode: ran.status ?? -1, stdout: ran.status === 0 ? ran.stdout : `${ran.stdout}${ran.stderr}` };
    }
  }

  remove(): void {
    spawnSync("/usr/bin/lxc-stop", ["-P", this.#folder, "-n", this.#name, "-k"], { env });
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
