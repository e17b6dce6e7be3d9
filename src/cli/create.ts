import type { Command, Option } from "./command.js";

/** Exit nodes on Proxmox hosts, from nothing to gone. */
const WHERE: Option = {
  flags: "--host <HOST>",
  description: "the Proxmox host, as it is called in `host list`; not needed with only one",
};

/** For commands about one that is there. */
export const ITS_HOST: Option = {
  flags: "--host <HOST>",
  description: "the Proxmox host, as it is called in `host list`; looked for when it is not given",
};

/** For commands that make one on each of several hosts. */
const EVERYWHERE: readonly Option[] = [
  {
    flags: "--host <HOST>",
    description: "the Proxmox host; given several times, one exit node on each: --name home on pve1 is home-pve1",
    repeatable: true,
  },
];

const SOME: readonly Option[] = [
  { flags: "--host <HOST>", description: "this host alone; may be repeated; default: all", repeatable: true },
];

export const SHAPE: readonly Option[] = [
  { flags: "--name <NAME>", description: 'what the exit node is called; default: "home"' },
  { flags: "--pve-node <NODE>", description: "the PVE node of a cluster that gets the container" },
  { flags: "--storage <ID>", description: "the storage for its disk; default: the first with room for containers" },
  { flags: "--template <VOLID>", description: "another template than ours, as storage:vztmpl/file" },
  { flags: "--template-storage <ID>", description: "the storage for the template" },
  { flags: "--bridge <BRIDGE>", description: "its network; default: vmbr0" },
  { flags: "--vlan <TAG>", description: "its VLAN on that bridge" },
  { flags: "--ip <ADDRESS>", description: "dhcp (the default), or an address such as 192.168.1.5/24" },
  { flags: "--gateway <IP>", description: "the IPv4 router, with a fixed address" },
  { flags: "--ip6 <ADDRESS>", description: "auto (the default), dhcp, none, or an address such as fd00::5/64" },
  { flags: "--gateway6 <IP>", description: "the IPv6 router, with a fixed address" },
  { flags: "--cores <N>", description: "processor cores; default: 1" },
  { flags: "--memory <MiB>", description: "memory; default: 512" },
  { flags: "--disk <GiB>", description: "disk; default: 4" },
  { flags: "--vmid <ID>", description: "its number on the host; default: the next free one" },
  { flags: "--pool <POOL>", description: "the pool it becomes a member of" },
  { flags: "--data-plane <KIND>", description: "auto (the default), kernel or userspace" },
  {
    flags: "--allow-lan <CIDR>",
    description: "a private range that tunnel users may reach; may be repeated; none takes it back",
    repeatable: true,
  },
  { flags: "--coordinator <URL>", description: "the coordinator to register with; default: the one in the config" },
  { flags: "--public-address <ADDRESS>", description: "where it is reached from outside; default: found by asking" },
];

export const createCommands: readonly Command[] = [
  {
    usage: "setup",
    summary: "From nothing to the first device: add the host, make the exit node, print how to join",
    options: [
      WHERE,
      ...SHAPE,
      { flags: "--url <URL>", description: "the Proxmox host, such as https://192.168.1.10:8006" },
      { flags: "--token <ID>", description: "log in with the API token user@realm!id; its secret is asked for" },
      { flags: "--user <LOGIN>", description: "log in as user@realm with a password, which is asked for" },
      { flags: "--keep-root", description: "keep the root login instead of making a least-privilege token" },
      { flags: "--secret-stdin", description: "read the secret as one line on stdin (or set EXITNODE_SECRET)" },
      { flags: "--fingerprint <FP>", description: "SHA-256 of the host's certificate, known beforehand" },
      { flags: "--yes", description: "take the certificate that the host shows, without asking" },
    ],
    run: async (call) => (await import("./setupaction.js")).setup(call),
  },
  {
    usage: "create",
    summary: "Make an exit node on a Proxmox host, or one on each of several; or put right what is there",
    options: [
      ...EVERYWHERE,
      ...SHAPE,
      { flags: "--dry-run", description: "only say what would be done, as `plan` does" },
    ],
    run: async (call) => (await import("./createaction.js")).createExitNode(call),
  },
  {
    usage: "plan",
    summary: "Say what `create` would change; exit code 4 when that is anything",
    options: [
      ...EVERYWHERE,
      ...SHAPE,
      { flags: "--all", description: "every exit node there is, on the given hosts or on all" },
    ],
    run: async (call) => (await import("./planaction.js")).planExitNodes(call),
  },
  {
    usage: "destroy <name>",
    summary: "Take an exit node away: container, journal, and what the coordinator knows of it",
    options: [
      ITS_HOST,
      { flags: "--yes", description: "do not ask" },
      { flags: "--template", description: "remove the templates that were uploaded, too" },
    ],
    run: async (call) => (await import("./destroyaction.js")).destroyExitNode(call),
  },
  {
    usage: "list",
    summary: "Show the exit nodes of every host; exit code 1 when one of the hosts could not be asked",
    options: SOME,
    run: async (call) => (await import("./listaction.js")).listExitNodes(call),
  },
  {
    usage: "logs <name>",
    summary: "Show the last lines of an exit node's daemons",
    options: [
      ITS_HOST,
      { flags: "--unit <UNIT>", description: "agent (the default), coordinator, ssh, or all" },
      { flags: "--lines <N>", description: "how many lines; default: 100" },
    ],
    run: async (call) => (await import("./logsaction.js")).exitNodeLogs(call),
  },
];
