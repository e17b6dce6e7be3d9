import { Failure } from "../kit/failure.js";
import type { Guest, PveHost } from "../pve/guests.js";
import type { Ssh } from "../sys/ssh.js";
import { create } from "./converge.js";
import { type Identity, identityId, readIdentity, TAG, writeIdentity } from "./identity.js";
import { hostKeyFromTasks, ownContainers } from "./observe.js";
import type { HostRequest, ProvisionParts } from "./parts.js";
import { patiently } from "./patience.js";
import type { Done } from "./run.js";
import { parseName } from "./spec.js";
import { parseStock, planStock, STOCK_LOOK } from "./stockpackages.js";
import { usableAddress } from "./view.js";

/**
 * A container that somebody else made becomes an exit node of ours: it is looked at and refused as long as nothing was
 * changed; then the tag and our line are written, and the ordinary plan follows, which installs what it lacks.
 */
export type Adoption = {
  readonly vmid: number;
  /** Its hostname when left out. */
  readonly name: string | undefined;
  /** Where Proxmox no longer tells of it. */
  readonly hostKey: string | undefined;
  /** Its root may be the host's root. */
  readonly privileged: boolean;
};
export type Adoptable = {
  readonly guest: Guest;
  readonly name: string;
  readonly hostKey: string;
  readonly address: string;
  /** What will be another than before, in words. */
  readonly words: readonly string[];
};

/** Tags of programs that hold a container to a state of their own: two masters undo each other's work. */
const MASTERS = ["terraform", "opentofu", "tofu", "pulumi", "ansible", "puppet", "saltstack"];
const HOST_KEY = /^SHA256:[A-Za-z0-9+/]{43}$/;
const ID_BYTES = 8;

/** Whether it can be adopted, and what that comes to. Changes nothing. */
export async function findAdoptable(parts: ProvisionParts, request: HostRequest, wanted: Adoption): Promise<Adoptable> {
  const { host } = parts;
  const { vmid } = wanted;
  const guest = (await host.guests()).find((one) => one.vmid === vmid);
  if (guest === undefined)
    throw refused("container-unknown", `there is no guest ${vmid} on ${request.hostName}`, "exitnode list");
  const config = guest.type === "lxc" ? await host.config(guest.node, vmid) : undefined;
  const advice = "make a new one beside it: exitnode create";
  if (config === undefined)
    throw refused("adopt-refused", `${vmid} "${guest.name}" is a virtual machine, expected a container`, advice);
  if (guest.template) throw refused("adopt-refused", `${vmid} is a template, expected a container that runs`, advice);
  const own = readIdentity(config.description);
  if (own !== undefined)
    throw refused(
      "adopt-refused",
      `container ${vmid} is the exit node "${own.name}" already`,
      `exitnode create --host ${request.hostName} --name ${own.name}`,
    );
  const master = config.tags.find((tag) => MASTERS.includes(tag.toLowerCase()));
  if (master !== undefined)
    throw refused(
      "adopt-refused",
      `container ${vmid} carries the tag "${master}": another tool looks after it`,
      `take it out of that tool's care and remove the tag: pct set ${vmid} --tags ''`,
    );
  if (!config.unprivileged && !wanted.privileged)
    throw refused(
      "adopt-refused",
      `container ${vmid} is privileged: root inside is root of the host`,
      `if that is meant: exitnode adopt ${vmid} --host ${request.hostName} --privileged`,
    );
  if (guest.status !== "running")
    throw refused("container-stopped", `container ${vmid} is ${guest.status}, expected it to run`, `pct start ${vmid}`);
  const name = parseName(wanted.name ?? config.hostname.split(".")[0]?.toLowerCase() ?? "");
  if ((await ownContainers(host)).some(({ identity }) => identity.name === name))
    throw refused(
      "name-taken",
      `there is an exit node "${name}" on ${request.hostName} already`,
      `choose another name: exitnode adopt ${vmid} --name NAME`,
    );
  const hostKey = await knownHostKey(host, guest, wanted.hostKey);
  const address = await addressIn(host, guest);
  const ssh = await enter(parts, { address, hostKey, vmid });
  try {
    const lacking = await lackingIn(ssh, vmid);
    return {
      ...{ guest, name, hostKey, address },
      words: [
        ...lacking,
        "its firewall becomes ours: SSH from its own network, WireGuard and, if it runs there, the coordinator come in",
        "SSH lets in by key only",
        `it is called "${name}", starts at boot, and has no swap`,
      ],
    };
  } finally {
    ssh.close();
  }
}

/** Writes down that it is ours, and does what `create` would. */
export async function adopt(
  parts: ProvisionParts,
  request: HostRequest,
  { guest, name, hostKey }: Adoptable,
): Promise<Done> {
  const { host, progress, book } = parts;
  const { node, vmid } = guest;
  await progress.step(`write down that container ${vmid} is "${name}"`, async () => {
    const config = await host.config(node, vmid);
    if (config === undefined)
      throw refused("container-unknown", `there is no container ${vmid} any more`, "exitnode list");
    const identity: Identity = {
      ...{ id: identityId(parts.random(ID_BYTES)), name, hostKey },
      // It keeps the size it was given.
      given: { memory: config.memoryMib, ...(config.cores === undefined ? {} : { cores: config.cores }) },
      ...((await book.record()) === undefined ? { coordinator: true } : {}),
    };
    const tags = [...new Set([...config.tags, TAG])].sort().join(";");
    const description = writeIdentity(config.description, identity);
    await patiently(parts, () => host.setConfig(node, vmid, { tags, description, digest: config.digest }));
  });
  return create(parts, request, { name, given: {} });
}

async function knownHostKey(host: PveHost, { node, vmid }: Guest, given: string | undefined): Promise<string> {
  if (given !== undefined && !HOST_KEY.test(given))
    throw refused(
      "host-key-invalid",
      `a host key must be SHA256: and 43 characters, got "${given}"`,
      `pct exec ${vmid} -- ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`,
    );
  if (given !== undefined) return given;
  const found = await hostKeyFromTasks(host, node, vmid);
  if (found !== undefined) return found;
  throw new Failure("host-key-unknown", `Proxmox no longer tells the SSH host key of container ${vmid}`, {
    advice: [
      "on the Proxmox host, as root:",
      `pct exec ${vmid} -- ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`,
      `then: exitnode adopt ${vmid} --host-key SHA256:…`,
    ].join("\n"),
  });
}

async function addressIn(host: PveHost, { node, vmid }: Guest): Promise<string> {
  const eth0 = (await host.interfaces(node, vmid)).find(({ name }) => name === "eth0");
  const address = usableAddress(eth0?.addresses ?? []);
  if (address !== undefined) return address;
  throw refused(
    "address-missing",
    `container ${vmid} has no address on eth0${eth0 === undefined ? ", and no interface of that name" : ""}`,
    `look at its network: pct config ${vmid}`,
  );
}

async function enter(
  { openSsh, sshKey, signal }: ProvisionParts,
  { address, hostKey, vmid }: { readonly address: string; readonly hostKey: string; readonly vmid: number },
): Promise<Ssh> {
  const target = { address, user: "root", privateKey: sshKey.privateKey, hostKey };
  return openSsh(target, signal).catch((error: unknown) => {
    if (!(error instanceof Failure) || error.code === "host-key-mismatch" || error.code === "interrupted") throw error;
    const install = "apt-get install -y openssh-server";
    const allow = `mkdir -p -m 700 /root/.ssh && echo "${sshKey.publicKey}" >>/root/.ssh/authorized_keys`;
    throw new Failure(error.code, `container ${vmid} does not let us in: ${error.message}`, {
      advice: [`on the Proxmox host, as root:`, `pct exec ${vmid} -- sh -c '${install}; ${allow}'`].join("\n"),
      cause: error,
    });
  });
}

/** What it lacks, in words; refuses what is no Debian 12 or 13 with systemd, and what cannot have a new enough Node.js. */
async function lackingIn(ssh: Ssh, vmid: number): Promise<string[]> {
  const script = [
    "export PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    STOCK_LOOK,
    "[ -d /run/systemd/system ] && echo systemd",
  ];
  const { stdout } = await ssh.run(["sh", "-s"], { input: `${script.join("\n")}\nexit 0\n` });
  const lines = stdout.split("\n");
  const stock = parseStock(lines);
  const hasSystemd = lines.includes("systemd");
  if (!/^debian 1[23]$/.test(stock.system ?? "") || !hasSystemd)
    throw refused(
      "adopt-refused",
      `container ${vmid} is ${stock.system ?? "unknown"}${hasSystemd ? "" : " without systemd"}, expected Debian 12 or 13`,
      "make a new one beside it: exitnode create",
    );
  return planStock(stock).map(({ words }) => words);
}

const refused = (code: string, message: string, advice: string): Failure => new Failure(code, message, { advice });
