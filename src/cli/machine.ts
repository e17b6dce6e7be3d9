import type { Command } from "./command.js";

/** This machine as a device of the network. */
export const machineCommands: readonly Command[] = [
  {
    usage: "up",
    summary: "Start this machine as a device; with --join or --login, join a network first",
    options: [
      {
        flags: "--login <URL>",
        description: "join by signing in at the coordinator, in a browser on any device, instead of with a join key",
      },
      {
        flags: "--key <KEY>",
        description: "with --login: the coordinator's public key, where its certificate is its own",
      },
      { flags: "--join <KEY>", description: "the join key, from `exitnode key create` (or set EXITNODE_JOIN_KEY)" },
      { flags: "--name <NAME>", description: "this device's name; default: the host name" },
      {
        flags: "--advertise <NETWORKS>",
        description:
          "networks behind this device that others may be let into, as 192.168.1.0/24; `none` takes them back",
      },
      {
        flags: "--no-snat",
        description: "with --advertise: those networks see the others' own addresses, and need a route to them",
      },
      { flags: "--data-plane <KIND>", description: "auto (the default), kernel or userspace" },
    ],
    run: async (call) => (await import("./up.js")).up(call),
  },
  {
    usage: "down",
    summary: "Stop this device and leave the machine's routing as it was",
    options: [{ flags: "--forget", description: "also forget the network: keys, map and choice" }],
    run: async (call) => (await import("./down.js")).down(call),
  },
  {
    usage: "use [exit]",
    summary:
      "Send everything through an exit node; of several (home,cabin) the first that works, `nearest` the quickest, `none` none; alone, show what there is",
    options: [
      {
        flags: "--dns <CHOICE>",
        description:
          "look-ups go to the exit's resolver (exit, the default), to this device's own through the exit (mine-via-exit), or to them directly, which shows this network what is looked up (mine)",
      },
    ],
    run: async (call) => (await import("./use.js")).use(call),
  },
  {
    usage: "rotate",
    summary: "Give this device a new WireGuard key; what is under way goes on",
    options: [{ flags: "--yes", description: "also where WireGuard apps know the old one, which cuts them off" }],
    run: async (call) => (await import("./rotate.js")).rotate(call),
  },
  {
    usage: "status [name]",
    summary: "Show this device, its peers and paths; or an exit node by name",
    run: async (call) => (await import("./status.js")).status(call),
  },
  {
    usage: "ping <peer>",
    summary: "Ask a peer for replies until one comes directly, and say which way each took, and why",
    options: [{ flags: "--count <N>", description: "ask so many times, whichever way the replies take" }],
    run: async (call) => (await import("./ping.js")).ping(call),
  },
  {
    usage: "netcheck",
    summary: "Check what this network lets through: UDP, the kind of NAT, port mapping, relays, a login page",
    run: async (call) => (await import("./netcheck.js")).netcheck(call),
  },
  {
    usage: "trace [target]",
    summary: "Show where the traffic goes, hop by hop, and the public addresses before and through the exit",
    options: [
      { flags: "-4, --ipv4", description: "trace over IPv4" },
      { flags: "-6, --ipv6", description: "trace over IPv6" },
    ],
    run: async (call) => (await import("./trace.js")).trace(call),
  },
  {
    usage: "agent",
    summary: "Run this device's daemon in the foreground, and clean up after it",
    run: async (call) => (await import("./supervise.js")).supervise(call),
  },
];
