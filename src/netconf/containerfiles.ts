import Handlebars from "handlebars";
import type * as z from "zod";
import { Failure } from "../kit/failure.js";
import { type Cidr, familyOf, type Ip } from "../kit/ip.js";
import { type CheckedContainerValues, containerValues } from "./containervalues.js";
import { coordinatorMemory } from "./coordinatormemory.js";

/**
 * Every file of an exit node's container, as text. The sources are templates/ of this package; whoever renders
 * reads them and says how the files get there: the appliance bakes them in, the provisioner pushes them.
 */

export type ContainerValues = z.input<typeof containerValues>;

/** Users that may own a file; all but root are made by the sysusers file, which therefore comes first. */
export type Owner = "root" | "exitnode" | "exitnode-coordinator";

export type RenderedFile = {
  readonly path: string;
  readonly mode: number;
  readonly owner: Owner;
  readonly group: Owner;
  readonly content: string;
  /** What must happen in a running container once this file has changed; CONTAINER_ACTIONS says how. */
  readonly onChange: readonly ContainerAction[];
};

export type ContainerAction =
  | "sysusers"
  | "journald"
  | "sysctl"
  | "nft"
  | "sshd"
  | "systemd-reload"
  | "agent"
  | "coordinator";

/** How each action is done, in the order in which pending actions are to be done; each is safe to repeat. */
export const CONTAINER_ACTIONS: readonly { action: ContainerAction; commands: readonly (readonly string[])[] }[] = [
  { action: "sysusers", commands: [["systemd-sysusers", "/etc/sysusers.d/exitnode.conf"]] },
  { action: "systemd-reload", commands: [["systemctl", "daemon-reload"]] },
  { action: "journald", commands: [["systemctl", "restart", "systemd-journald.service"]] },
  { action: "sysctl", commands: [["/usr/lib/systemd/systemd-sysctl", "/etc/sysctl.d/60-exitnode.conf"]] },
  {
    action: "nft",
    commands: [
      ["nft", "-c", "-f", "/etc/nftables.conf"],
      ["nft", "-f", "/etc/nftables.conf"],
      ["systemctl", "enable", "nftables.service"],
    ],
  },
  {
    action: "sshd",
    commands: [
      ["sshd", "-t"],
      ["systemctl", "enable", "ssh.service"],
      ["systemctl", "reload-or-restart", "ssh.service"],
    ],
  },
  {
    action: "coordinator",
    commands: [
      ["systemctl", "enable", "exitnode-coordinator.service"],
      ["systemctl", "restart", "exitnode-coordinator.service"],
    ],
  },
  {
    action: "agent",
    commands: [
      ["systemctl", "enable", "exitnode-agent.service"],
      ["systemctl", "restart", "exitnode-agent.service"],
    ],
  },
];

/**
 * Units an exit node does without: for `systemctl mask`, or a link to /dev/null in /etc/systemd/system. ssh.socket
 * would make sshd's own ListenAddress void; systemd-firstboot asks the console for a time zone and holds up the boot,
 * because Proxmox VE removes the machine id; the rest fails in an unprivileged container or is work nobody asked for.
 */
export const MASKED_UNITS: readonly string[] = [
  "ssh.socket",
  "systemd-networkd.service",
  "systemd-networkd.socket",
  "systemd-firstboot.service",
  "sys-kernel-debug.mount",
  "systemd-modules-load.service",
  "apt-daily.timer",
  "apt-daily-upgrade.timer",
];

/** What is pushed byte for byte from dist/ into /opt/exitnode, root's, world-readable. */
export const PUSHED_FILES: readonly {
  from: string;
  path: string;
  mode: number;
  onChange: readonly ContainerAction[];
  /** A build may be without it. */
  optional?: true;
}[] = [
  { from: "package.json", path: "/opt/exitnode/package.json", mode: 0o644, onChange: ["agent", "coordinator"] },
  { from: "koffi.node", path: "/opt/exitnode/koffi.node", mode: 0o644, onChange: ["agent"] },
  {
    from: "accelerator.so",
    path: "/opt/exitnode/accelerator.so",
    mode: 0o644,
    onChange: ["agent"],
    optional: true,
  },
  { from: "agent.js", path: "/opt/exitnode/agent.js", mode: 0o644, onChange: ["agent"] },
  { from: "libsql.node", path: "/opt/exitnode/libsql.node", mode: 0o644, onChange: ["coordinator"] },
  { from: "coordinator.js", path: "/opt/exitnode/coordinator.js", mode: 0o644, onChange: ["coordinator"] },
];

type Entry = Omit<RenderedFile, "content" | "owner" | "group"> & {
  readonly source: string;
  readonly group?: Owner;
  /** Left out where the values hold nothing to write into it. */
  readonly needs?: "agent" | "coordinator";
};

const ENTRIES: readonly Entry[] = [
  { source: "sysusers.conf", path: "/etc/sysusers.d/exitnode.conf", mode: 0o644, onChange: ["sysusers"] },
  { source: "preset", path: "/etc/systemd/system-preset/10-exitnode.preset", mode: 0o644, onChange: [] },
  {
    source: "tmp-mount.conf",
    path: "/etc/systemd/system/tmp.mount.d/exitnode.conf",
    mode: 0o644,
    onChange: ["systemd-reload"],
  },
  {
    source: "journald.conf",
    path: "/etc/systemd/journald.conf.d/10-exitnode.conf",
    mode: 0o644,
    onChange: ["journald"],
  },
  { source: "sysctl.conf", path: "/etc/sysctl.d/60-exitnode.conf", mode: 0o644, onChange: ["sysctl"] },
  { source: "nftables.conf", path: "/etc/nftables.conf", mode: 0o600, onChange: ["nft"] },
  { source: "sshd.conf", path: "/etc/ssh/sshd_config.d/10-exitnode.conf", mode: 0o644, onChange: ["sshd"] },
  {
    source: "exitnode-agent.service",
    path: "/etc/systemd/system/exitnode-agent.service",
    mode: 0o644,
    onChange: ["systemd-reload", "agent"],
  },
  {
    source: "exitnode-coordinator.service",
    path: "/etc/systemd/system/exitnode-coordinator.service",
    mode: 0o644,
    onChange: ["systemd-reload", "coordinator"],
  },
  {
    source: "coordinator.yaml",
    path: "/etc/exitnode/coordinator.yaml",
    mode: 0o640,
    group: "exitnode-coordinator",
    onChange: ["coordinator"],
    needs: "coordinator",
  },
  {
    source: "agent.yaml",
    path: "/etc/exitnode/agent.yaml",
    mode: 0o640,
    group: "exitnode",
    onChange: ["agent"],
    needs: "agent",
  },
];

/** File names below templates/ that `sources` must hold, by their name there. */
const TEMPLATE_NAMES: readonly string[] = ENTRIES.map((entry) => `${entry.source}.hbs`);

/** The conntrack mark of connections out of the tunnel ("EXN"). */
const TUNNEL_MARK = "0x0045584e";

/** Every file, in the order in which they should be written. */
export function renderContainerFiles(
  sources: Readonly<Record<string, string>>,
  values: ContainerValues,
): RenderedFile[] {
  const checked = check(values);
  const memory = coordinatorMemory(checked.memoryMiB, checked.agentBeside);
  const context = { ...checked, ...byFamily(checked), mark: TUNNEL_MARK, coordinatorMemory: memory };
  return ENTRIES.filter((entry) => entry.needs === undefined || checked[entry.needs] !== undefined).map(
    ({ source, needs, group = "root", ...file }) => ({
      ...file,
      owner: "root",
      group,
      content: render(sources, `${source}.hbs`, context),
    }),
  );
}

/** Reads the sources that renderContainerFiles takes, by whatever means the caller reads files of templates/. */
export async function readTemplates(
  read: (name: string) => Promise<string | undefined>,
): Promise<Record<string, string>> {
  const sources: Record<string, string> = {};
  for (const name of TEMPLATE_NAMES) {
    const text = await read(name);
    if (text === undefined)
      throw new Failure("template-missing", `templates/${name} is missing`, { advice: "install the package again" });
    sources[name] = text;
  }
  return sources;
}

function check(values: ContainerValues): CheckedContainerValues {
  const parsed = containerValues.safeParse(values);
  if (parsed.success) return parsed.data;
  const issues = parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`);
  throw new Failure("container-values-invalid", `the container's files cannot be written: ${issues.join("; ")}`);
}

/** nftables keeps IPv4 and IPv6 elements in different sets. */
function byFamily(values: CheckedContainerValues): Record<string, readonly (Ip | Cidr)[]> {
  const lists = {
    allowLan: values.allowLan,
    protect: values.protect,
    resolvers: values.resolvers,
    ssh: values.sshFrom,
  };
  return Object.fromEntries(
    Object.entries(lists).flatMap(([list, members]: [string, readonly (Ip | Cidr)[]]) =>
      ([4, 6] as const).map((family) => [`${list}${family}`, members.filter((member) => familyOf(member) === family)]),
    ),
  );
}

/** By name, so that there are no more than templates: compiling takes far longer than writing, and every look writes. */
const compiled = new Map<string, { readonly source: string; readonly write: Handlebars.TemplateDelegate }>();

function render(sources: Readonly<Record<string, string>>, name: string, context: object): string {
  const source = sources[name];
  if (source === undefined)
    throw new Failure("template-missing", `the template ${name} is not among the ${Object.keys(sources).length} given`);
  const known = compiled.get(name);
  if (known?.source === source) return known.write(context);
  // noEscape: the languages written here are not HTML. strict: a value that is not there is a mistake, not "".
  const write = Handlebars.compile(source, { noEscape: true, strict: true });
  compiled.set(name, { source, write });
  return write(context);
}
