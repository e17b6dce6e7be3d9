import type { Command } from "./command.js";

/** This machine as a device of the network. */
export const machineCommands: readonly Command[] = [
  {
    usage: "up",
    summary: "Start this machine as a device; with --join, join a network first",
    options: [
      { flags: "--join <key>", description: "join key from `exitnode key create` (or EXITNODE_JOIN_KEY)" },
      { flags: "--name <name>", description: "this device's name; default: the host name" },
      { flags: "--data-plane <kind>", description: "auto, kernel or userspace; default: auto" },
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
    usage: "use <exit>",
    summary: "Send everything through an exit node; `use none` sends nothing through one",
    run: async (call) => (await import("./use.js")).use(call),
  },
  {
    usage: "status [name]",
    summary: "Show this device, its peers and paths; or an exit node by name",
    run: async (call) => (await import("./status.js")).status(call),
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
    summary: "Run the device's daemon under a supervisor that cleans up after it",
    hidden: true,
    run: async (call) => (await import("./supervise.js")).supervise(call),
  },
];
