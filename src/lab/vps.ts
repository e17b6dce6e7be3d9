import { copyFileSync, existsSync } from "node:fs";
import { basename, join } from "node:path";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { type DaemonParts, hasListener } from "./daemons.js";
import { namespaceOf, PUBLIC_RESOLVER, VPS, VPS_GATEWAY, VPS_GATEWAY6, VPS6 } from "./internet.js";
import { NETNS_DIR, RUN_DIR, STATE_DIR, TOOL_PATH } from "./places.js";
import { withCgroups } from "./pve/cgroup.js";
import { destroyAllContainers } from "./pve/containers.js";
import { makeHostKeys } from "./pve/hostkey.js";
import { lxcFolder, lxcRuntime } from "./pve/lxc.js";
import { makeRoot, removeRoot, unpack, writeRootFiles } from "./pve/rootfs.js";
import { configureRoot, personalizeRoot } from "./pve/setup.js";

/**
 * The rented server as a machine: Debian with systemd and sshd, in an unprivileged container on the bridge of the
 * place `vps`, whose addresses it takes over. Made anew from the container template whenever it is not there.
 */
export type Vps = { readonly running: boolean; readonly ssh: string; readonly sshConfig: string };

export type VpsOrder = {
  /** The archive of a root file system. */
  readonly template: string;
  /** Whose key lets root in, as a line of authorized_keys, and where its private half is. */
  readonly publicKey: string;
  readonly privateKeyPath: string;
};

const VPS_DIR = `${STATE_DIR}/vps`;
/** LXC's name for it: below 100, where Proxmox has no containers. */
const VMID = 22;
const ROOT = join(VPS_DIR, "local", "images", String(VMID), "root");
/** Written when the root directory is whole. */
const MADE = `${VPS_DIR}/made`;
const KNOWN_HOSTS = `${VPS_DIR}/known_hosts`;
const SSH_CONFIG = `${RUN_DIR}/ssh_config`;
const SSH_PORT = 22;
/** systemd is up in 2 s on an idle machine. */
const SSH_WITHIN_MS: Millis = 60_000;
const POLL_MS: Millis = 50;
const MEMORY_MIB = 1024;

const OPTIONS: Record<string, string> = {
  hostname: "vps",
  arch: "amd64",
  ostype: "debian",
  unprivileged: "1",
  cores: "1",
  memory: String(MEMORY_MIB),
  swap: "0",
  features: "nesting=1",
  net0:
    "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:22,type=veth," +
    `ip=${VPS}/28,gw=${VPS_GATEWAY},ip6=${VPS6}/64,gw6=${VPS_GATEWAY6}`,
};

const IN_NAMESPACE = ["/usr/bin/nsenter", `--net=${NETNS_DIR}/${namespaceOf("vps")}`];

const runtime = () => lxcRuntime(VPS_DIR, [...IN_NAMESPACE, ...withCgroups()]);

/** Returns once its sshd listens. False when it ran already. */
export async function raiseVps(parts: DaemonParts, order: VpsOrder, signal: AbortSignal): Promise<boolean> {
  const { exec, files } = parts;
  if (runtime().running(VMID) !== undefined) return false;
  if ((await files.readText(MADE)) === undefined) await makeVps(parts, order, signal);
  await runtime().start(VMID, ROOT, OPTIONS);
  const began = parts.clock.now();
  while (!(await hasSsh(parts))) {
    if (signal.aborted) throw new Failure("interrupted", "the vps was not waited for");
    if (parts.clock.now() - began > SSH_WITHIN_MS)
      throw new Failure("lab-vps", `the vps started, but no sshd listens there after ${SSH_WITHIN_MS} ms`, {
        advice: "exitnode lab exec vps -- journalctl -b",
      });
    await parts.clock.sleep(POLL_MS);
  }
  // The machine stands in the home LAN: what it sends to the vps goes through the home's router and provider.
  const ran = await exec.run(["ip", "route", "replace", `${VPS}/32`, "via", "198.18.77.1"], {
    env: { PATH: TOOL_PATH },
  });
  if (ran.exitCode !== 0) throw new Failure("lab-vps", `no route from this machine to the vps: ${ran.stderr.trim()}`);
  await files.write(SSH_CONFIG, renderSshConfig(order.privateKeyPath));
  return true;
}

async function makeVps({ files }: DaemonParts, order: VpsOrder, signal: AbortSignal): Promise<void> {
  removeRoot(ROOT);
  makeRoot(ROOT);
  // The container's root unpacks it, and cannot read the administrator's folders.
  const archive = join(VPS_DIR, basename(order.template));
  copyFileSync(order.template, archive);
  const [, hostKeys] = await Promise.all([unpack(ROOT, archive, signal), makeHostKeys("vps", signal)]);
  await files.remove(archive);
  const keyFiles = hostKeys.flatMap((key) => key.files);
  await configureRoot(ROOT, OPTIONS, { nameservers: [PUBLIC_RESOLVER], search: "lab" });
  await personalizeRoot(ROOT, { sshKeys: order.publicKey, password: undefined }, keyFiles);
  // The template's firewall is an exit node's, closed to the Internet; a rented server comes without one.
  await writeRootFiles(ROOT, [{ path: "/etc/nftables.conf", content: "flush ruleset\n", mode: 0o644 }]);
  const publicKeys = keyFiles.filter(({ path }) => path.endsWith(".pub"));
  await files.write(KNOWN_HOSTS, publicKeys.map(({ content }) => `vps,vps.lab,${VPS},${VPS6} ${content}`).join(""));
  await files.write(MADE, "");
}

function renderSshConfig(privateKeyPath: string): string {
  return `Host vps vps.lab ${VPS}
  HostName ${VPS}
  User root
  IdentityFile ${privateKeyPath}
  IdentitiesOnly yes
  UserKnownHostsFile ${KNOWN_HOSTS}
  StrictHostKeyChecking yes
`;
}

async function hasSsh({ files }: DaemonParts): Promise<boolean> {
  const pid = runtime().running(VMID)?.pid;
  if (pid === undefined) return false;
  const tables = await Promise.all(
    ["tcp", "tcp6"].map((name) => files.readText(`/proc/${pid}/net/${name}`).catch(() => "")),
  );
  return tables.some((table) => hasListener(table ?? "", "tcp", SSH_PORT));
}

/** Ends it and takes away everything it had; the place gets its addresses back from the topology. */
export async function removeVps(parts: DaemonParts): Promise<void> {
  if (!existsSync(VPS_DIR)) return;
  await parts.files.remove(MADE);
  await destroyAllContainers({ stateDir: VPS_DIR, storageDir: VPS_DIR });
  await parts.exec.run(["ip", "route", "delete", `${VPS}/32`, "via", "198.18.77.1"], { env: { PATH: TOOL_PATH } });
  await parts.files.remove(VPS_DIR);
  await parts.files.remove(SSH_CONFIG);
}

export const observeVps = (): Vps => ({
  running: runtime().running(VMID) !== undefined,
  ssh: `root@${VPS}`,
  sshConfig: SSH_CONFIG,
});

/** What runs a command inside it; LXC's socket is in the namespace it was started from. */
export function insideVps(command: readonly string[]): string[] {
  const attach = ["lxc-attach", "-P", lxcFolder(VPS_DIR), "-n", String(VMID), "--clear-env"];
  const env = [`PATH=${TOOL_PATH}`, "HOME=/root", "EXITNODE_LAB_PLACE=vps"].map((one) => `--set-var=${one}`);
  return [...IN_NAMESPACE, ...attach, ...env, "--", ...(command.length === 0 ? ["/bin/bash"] : command)];
}
