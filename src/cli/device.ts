import type { Command } from "./command.js";

export const deviceCommands: readonly Command[] = [
  {
    usage: "device list",
    summary: "Show the devices of the network",
    run: async (call) => (await import("./deviceactions.js")).listDevices(call),
  },
  {
    usage: "device revoke <device>",
    summary: "Shut a device out for good; its peers have dropped it when this returns",
    run: async (call) => (await import("./deviceactions.js")).revokeDevice(call),
  },
  {
    usage: "device remove <device>",
    summary: "Shut a device out and forget it: its name and addresses are free again",
    run: async (call) => (await import("./deviceactions.js")).removeDevice(call),
  },
];
