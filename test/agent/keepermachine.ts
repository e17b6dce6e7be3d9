import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Exec, localExec, mustRun } from "../../src/sys/exec.js";
import { until } from "../engine/patience.js";

/**
 * A machine whose resolv.conf is kept by one of Debian 12's own programs: in a network namespace that is there, with an
 * /etc and a /run of its own. The keeper and glibc's look-ups run out of Debian 12's packages, everything else is this
 * machine's, and both see the same files.
 */
export const KEEPERS = ["systemd-resolved", "resolvconf", "openresolv"] as const;
export type Keeper = (typeof KEEPERS)[number];

const SUITE = "bookworm";
const PACKAGES: Record<Keeper, string> = {
  "systemd-resolved": "systemd-resolved,libnss-resolve,dbus-daemon",
  resolvconf: "resolvconf,bash,sed,grep,util-linux",
  openresolv: "openresolv,sed,grep,mawk",
};
const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "exitnode", "keepers");

/** The packages of a keeper, unpacked: made once, 20 s and up to 150 MB. */
export async function keeperRoot(keeper: Keeper): Promise<string> {
  const root = join(CACHE, `${SUITE}-${PACKAGES[keeper].replaceAll(",", "+")}`);
  if (existsSync(root)) return root;
  const fresh = `${root}.${process.pid}`;
  await mkdir(CACHE, { recursive: true });
  const include = `--include=${PACKAGES[keeper]},libc-bin,dash,coreutils`;
  await mustRun(localExec, ["mmdebstrap", "--variant=extract", "--quiet", include, SUITE, fresh], {
    timeoutMs: 300_000,
  });
  for (const folder of ["run", "proc", "dev", "tmp"]) await mkdir(join(fresh, folder), { recursive: true });
  await rm(join(fresh, "etc/resolv.conf"), { force: true });
  await rename(fresh, root).catch(async (error: unknown) => {
    if (!existsSync(root)) throw error;
    // Another test made the same meanwhile.
    await rm(fresh, { recursive: true });
  });
  return root;
}

/** Where this machine's programs find the keeper's: an agent asks systemd-resolved by resolvectl. */
export const KEEPER_BIN = "/run/keeper-bin";
/** The user an agent runs as there: the bus speaks to none whom /etc/passwd does not know. */
export const AGENT_UID = 12_347;

/** What `unshare` runs, with the keeper's packages as $1: mounts, then holds the namespace. */
const DRESS = `set -e
root=$1
mount --bind "$root" "$root"
mount -t tmpfs keeper "$root/tmp"
cp -a /etc "$root/tmp/etc"
cp -a "$root/etc/." "$root/tmp/etc/"
rm -f "$root/tmp/etc/resolv.conf" "$root/tmp/etc/ld.so.cache"
echo 'hosts: files resolve [!UNAVAIL=return] dns' > "$root/tmp/etc/nsswitch.conf"
echo 'passwd: files' >> "$root/tmp/etc/nsswitch.conf"
for user in systemd-resolve:64901 messagebus:64902 agent:${AGENT_UID}; do
  name=\${user%:*} number=\${user#*:}
  grep -q "^$name:" "$root/tmp/etc/passwd" || echo "$name:x:$number:$number::/:/usr/sbin/nologin" >> "$root/tmp/etc/passwd"
  grep -q "^$name:" "$root/tmp/etc/group" || echo "$name:x:$number:" >> "$root/tmp/etc/group"
done
mkdir "$root/tmp/run" "$root/tmp/run/dbus" "$root/tmp/run/systemd"
for one in etc run; do
  mount --bind "$root/tmp/$one" "/$one"
  mount --bind "$root/tmp/$one" "$root/$one"
done
mkdir -p /run/keeper ${KEEPER_BIN}
mount --bind "$root" /run/keeper
printf '#!/bin/sh\\nLD_LIBRARY_PATH=/run/keeper/usr/lib/%s-linux-gnu/systemd exec /run/keeper/usr/bin/resolvectl "$@"\\n' \
  "$(uname -m)" > ${KEEPER_BIN}/resolvectl
chmod 755 ${KEEPER_BIN}/resolvectl
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
echo ready
exec sleep infinity`;

export class KeeperMachine {
  readonly keeper: Keeper;
  /** Before a command: with this machine's programs, and with the keeper's. */
  readonly enter: readonly string[];
  readonly #inRoot: readonly string[];
  readonly #children: ChildProcess[] = [];

  private constructor(keeper: Keeper, root: string, holder: ChildProcess) {
    this.keeper = keeper;
    this.enter = ["nsenter", "-t", String(holder.pid), "-m", "-n", "--"];
    this.#inRoot = [...this.enter, "chroot", root];
    this.#children.push(holder);
  }

  /** In the network namespace `place`, whose link `link` has been told of `resolver`, as by DHCP. */
  static async start(keeper: Keeper, place: string, link: string, resolver: string): Promise<KeeperMachine> {
    const root = await keeperRoot(keeper);
    const unshare = [
      "netns",
      "exec",
      place,
      "unshare",
      "--mount",
      "--propagation=private",
      "sh",
      "-c",
      DRESS,
      "sh",
      root,
    ];
    const holder = spawn("ip", unshare, { stdio: ["ignore", "pipe", "inherit"] });
    await firstLine(holder);
    const machine = new KeeperMachine(keeper, root, holder);
    await machine.#begin();
    await machine.tell(link, resolver);
    return machine;
  }

  /** The link's resolver is this from now on. */
  async tell(link: string, resolver: string): Promise<void> {
    if (this.keeper === "systemd-resolved") await this.must(["resolvectl", "dns", link, resolver]);
    else await this.must(["resolvconf", "-a", `${link}.dhcp`], `nameserver ${resolver}\n`);
  }

  /** A name's first address as a program gets it from glibc and whatever it asks; empty where there is none. */
  async lookUp(name: string): Promise<string> {
    const { stdout } = await localExec.run([...this.#inRoot, "getent", "ahostsv4", name]);
    return stdout.split(" ")[0] ?? "";
  }

  /** What the machine says of its resolvers. */
  async state(): Promise<string> {
    const files = await this.must(["sh", "-c", "readlink /etc/resolv.conf; cat /etc/resolv.conf"]);
    return this.keeper === "systemd-resolved" ? `${files}${await this.must(["resolvectl", "dns"])}` : files;
  }

  must(argv: readonly string[], input?: string): Promise<string> {
    return mustRun(localExec, [...this.#inRoot, ...argv], input === undefined ? {} : { input });
  }

  async stop(): Promise<void> {
    for (const child of this.#children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }

  async #begin(): Promise<void> {
    const link = (to: string) => this.must(["ln", "-s", to, "/etc/resolv.conf"]);
    if (this.keeper === "openresolv") return;
    if (this.keeper === "resolvconf") {
      await this.must(["mkdir", "-p", "/run/resolvconf/interface"]);
      await this.must(["resolvconf", "--enable-updates"]);
      await link("../run/resolvconf/resolv.conf");
      return;
    }
    await link("../run/systemd/resolve/stub-resolv.conf");
    this.#spawn("dbus-daemon", "--system", "--nofork", "--nopidfile");
    await until("the bus is there", () => this.#has("/run/dbus/system_bus_socket"));
    this.#spawn("/lib/systemd/systemd-resolved");
    await until("it has begun", () => this.#has("/run/systemd/resolve/stub-resolv.conf"));
    const answers = async () => (await this.run(["resolvectl", "status"])).exitCode === 0;
    await until("systemd-resolved is there", answers);
  }

  run(argv: readonly string[]): ReturnType<Exec["run"]> {
    return localExec.run([...this.#inRoot, ...argv]);
  }

  async #has(path: string): Promise<boolean> {
    return (await this.run(["test", "-e", path])).exitCode === 0;
  }

  #spawn(...argv: readonly string[]): void {
    const [file = "", ...args] = [...this.#inRoot, ...argv];
    this.#children.push(spawn(file, args, { stdio: "ignore" }));
  }
}

async function firstLine(child: ChildProcess): Promise<void> {
  if (child.stdout === null) throw new Error("no stdout");
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`the machine was not made: exit code ${code}`);
  });
  await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended]);
}
