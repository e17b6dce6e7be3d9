import { Failure } from "../kit/failure.js";
import { familyOf } from "../kit/ip.js";
import { MINUTE, type Millis, SECOND } from "../kit/time.js";
import { hostKeyIn } from "../provision/hostkey.js";
import { isOurTemplate } from "../provision/identity.js";
import type { HostRequest, ProvisionParts } from "../provision/parts.js";
import type { PveHost, Storage } from "../pve/guests.js";
import { missing, needsForCreate, refused } from "../pve/permissions.js";
import type { Ssh } from "../sys/ssh.js";

/** A throw-away container of a Proxmox host in which something is built: made, entered, and taken away whatever happens. */
export type BuilderParts = Pick<ProvisionParts, "host" | "clock" | "openSsh" | "sshKey" | "sha256" | "signal"> & {
  say(line: string): void;
};

export const BUILDER_NAME = "exitnode-build";
/** The build keeps the packages, the unpacked image and its archive side by side; packing takes most of the memory. */
const BUILDER_DISK_GIB = 8;
const BUILDER_MEMORY_MIB = 2_048;
const BUILDER_CORES = 2;
const ADDRESS_WAIT_MS: Millis = 2 * MINUTE;
const SSH_WAIT_MS: Millis = MINUTE;
const POLL_MS: Millis = 500;
const SSH_USER = "root";

/** Runs `use` inside. A builder that a killed run of ours left is taken away first; anybody else's is left alone. */
export async function inBuilder<T>(
  parts: BuilderParts,
  request: HostRequest,
  use: (ssh: Ssh) => Promise<T>,
): Promise<T> {
  const { host, signal } = parts;
  const mark = `exitnode-build: ${parts.sha256(parts.sshKey.publicKey).slice(0, 32)}`;
  const node = await nodeOf(host, request);
  await removeLeftover(parts, mark, request.hostName);
  const place = await placeFor(parts, request, node);
  const vmid = await host.nextVmid();
  let made = false;
  try {
    parts.say(`making container ${vmid} on ${node} from ${place.template}`);
    // Sent once: when the answer is lost, the container may be there all the same, and is looked for.
    made = true;
    const { log } = await host.waitTask(
      await host.create(node, {
        vmid,
        ostemplate: place.template,
        hostname: BUILDER_NAME,
        unprivileged: true,
        cores: BUILDER_CORES,
        memory: BUILDER_MEMORY_MIB,
        swap: 0,
        rootfs: `${place.storage}:${BUILDER_DISK_GIB}`,
        net0: networkOption(place.bridge, request),
        features: "nesting=1",
        onboot: false,
        description: `Builds the exit node's template and is removed afterwards.\n\n${mark}`,
        "ssh-public-keys": parts.sshKey.publicKey,
        ...(request.defaults.pool === undefined ? {} : { pool: request.defaults.pool }),
      }),
    );
    stopIf(signal);
    const hostKey = hostKeyIn(log);
    if (hostKey === undefined)
      throw new Failure("host-key-unknown", `the log of the task that made container ${vmid} names no SSH host key`, {
        advice: "the template it is made from must have an SSH server, as Debian's standard one has",
      });
    await host.waitTask(await host.start(node, vmid));
    const address = await addressOf(parts, node, vmid);
    const ssh = await entered(parts, { address, user: SSH_USER, privateKey: parts.sshKey.privateKey, hostKey });
    try {
      return await use(ssh);
    } finally {
      ssh.close();
    }
  } finally {
    if (made) await remove(parts, node, vmid, mark);
  }
}

/** Between two steps and not within one: a task that was begun is waited for, so that there is one thing to take away. */
function stopIf(signal: AbortSignal): void {
  if (signal.aborted) throw new Failure("interrupted", "interrupted; nothing is left on the host");
}

async function nodeOf(host: PveHost, { hostName, pveNode }: HostRequest): Promise<string> {
  if (pveNode !== undefined) return pveNode;
  const online = (await host.nodes()).filter((one) => one.online).map(({ name }) => name);
  if (online.length === 1 && online[0] !== undefined) return online[0];
  throw new Failure("pve-node-unknown", `host ${hostName} is a cluster of ${online.join(", ")}`, {
    advice: `exitnode host add ${hostName} --pve-node ${online[0] ?? "NODE"}`,
  });
}

type Place = { readonly template: string; readonly storage: string; readonly bridge: string };

async function placeFor({ host }: BuilderParts, request: HostRequest, node: string): Promise<Place> {
  const storages = (await host.storages(node)).filter(({ active }) => active);
  const holding = (content: string): Storage[] => storages.filter((one) => one.content.includes(content));
  const room = holding("rootdir").filter(({ availBytes }) => availBytes >= BUILDER_DISK_GIB * 1024 ** 3);
  const storage = room.find(({ id }) => id === request.defaults.storage) ?? room[0];
  if (storage === undefined)
    throw new Failure("storage-full", `no storage of ${node} has ${BUILDER_DISK_GIB} GiB free for a container`, {
      advice: "free some space, or build on a Debian machine: sudo exitnode appliance build",
    });
  const templates = await Promise.all(holding("vztmpl").map(({ id }) => host.templates(node, id)));
  const template = baseTemplate(templates.flat().map(({ volid }) => volid));
  if (template === undefined)
    throw new Failure("template-missing", `${request.hostName} has no template of Debian 13 to build in`, {
      advice:
        "on the Proxmox host: pveam update && pveam download local $(pveam available --section system | awk '/debian-13-standard/ {print $2}')",
    });
  const bridges = await host.bridges(node);
  const bridge = request.defaults.bridge ?? bridges.find(({ name }) => name === "vmbr0")?.name ?? bridges[0]?.name;
  const place = { template, storage: storage.id, bridge: bridge ?? "vmbr0" };
  await checkRights(host, request, node, place);
  return place;
}

/** The newest of Debian's own, else one of ours: both have apt and sshd. */
export function baseTemplate(volids: readonly string[]): string | undefined {
  const sorted = [...volids].sort((left, right) => right.localeCompare(left, "en", { numeric: true }));
  return sorted.find((volid) => /:vztmpl\/debian-13-standard_/.test(volid)) ?? sorted.find(isOurTemplate);
}

async function checkRights(host: PveHost, request: HostRequest, node: string, place: Place): Promise<void> {
  const { vlan, pool } = request.defaults;
  const templateStorage = place.template.split(":")[0] ?? "";
  const needs = needsForCreate({ node, ...place, templateStorage, vlan, pool, upload: false });
  const lacking = missing(await host.permissions(needs.map(({ path }) => path)), needs);
  if (lacking.length > 0) throw refused(request.login, lacking);
}

/** As the host's exit nodes get theirs, but never a fixed address: that is an exit node's. */
function networkOption(bridge: string, { defaults }: HostRequest): string {
  const vlan = defaults.vlan === undefined ? "" : `,tag=${defaults.vlan}`;
  return `name=eth0,bridge=${bridge}${vlan},ip=dhcp,ip6=auto`;
}

async function addressOf({ host, clock, signal }: BuilderParts, node: string, vmid: number): Promise<string> {
  const startedAt = clock.now();
  for (;;) {
    const eth0 = (await host.interfaces(node, vmid)).find(({ name }) => name === "eth0")?.addresses ?? [];
    const address = eth0.find((ip) => familyOf(ip) === 4 && !ip.startsWith("169.254."));
    if (address !== undefined) return address;
    if (clock.now() - startedAt >= ADDRESS_WAIT_MS)
      throw new Failure("no-address", `the builder got no IPv4 address in ${ADDRESS_WAIT_MS / SECOND} s`, {
        advice: "is there a DHCP server on its bridge? another one: bridge: or vlan: under defaults: of the host",
      });
    await clock.sleep(POLL_MS, signal);
  }
}

async function entered(parts: BuilderParts, target: Parameters<BuilderParts["openSsh"]>[0]): Promise<Ssh> {
  const startedAt = parts.clock.now();
  for (;;) {
    try {
      return await parts.openSsh(target, parts.signal);
    } catch (error) {
      const coming = error instanceof Failure && ["ssh-refused", "ssh-unreachable"].includes(error.code);
      if (!coming || parts.clock.now() - startedAt >= SSH_WAIT_MS) throw error;
      await parts.clock.sleep(POLL_MS, parts.signal);
    }
  }
}

async function removeLeftover(parts: BuilderParts, mark: string, hostName: string): Promise<void> {
  for (const { vmid, node, name, type } of await parts.host.guests()) {
    if (type !== "lxc" || name !== BUILDER_NAME) continue;
    if (await remove(parts, node, vmid, mark)) continue;
    throw new Failure("build-under-way", `container ${vmid} on ${hostName} builds for somebody else, or did`, {
      advice: `when nobody builds there any more, on the Proxmox host: pct stop ${vmid}; pct destroy ${vmid}`,
    });
  }
}

/** Only what carries our mark, and with no regard to Ctrl-C: nothing is to stay. */
async function remove({ host, say }: BuilderParts, node: string, vmid: number, mark: string): Promise<boolean> {
  const config = await host.config(node, vmid);
  if (config === undefined) return true;
  if (!config.description.includes(mark)) return false;
  try {
    if ((await host.status(node, vmid)) === "running") await host.waitTask(await host.stop(node, vmid));
    await host.waitTask(await host.destroy(node, vmid));
  } catch (cause) {
    // What is told last is what went wrong first: this is said beside it.
    say(`container ${vmid} on ${node} is left; on the Proxmox host: pct stop ${vmid}; pct destroy ${vmid}`);
    if (cause instanceof Failure) say(cause.message);
  }
  return true;
}
