import type { Command } from "./command.js";

export const deviceCommands: readonly Command[] = [
  {
    usage: "device list",
    summary: "Show the devices of the network",
    run: async (call) => (await import("./deviceactions.js")).listDevices(call),
  },
  {
    usage: "device add <device>",
    summary: "Let a phone's WireGuard app in, which needs no agent: shows the configuration for it, once",
    options: [
      { flags: "--qr", description: "as a QR code, for the app's camera" },
      { flags: "--out <FILE>", description: "into a file, which its owner alone may read; default: on stdout" },
      { flags: "--exit <NAME>", description: "the exit node it goes by; not needed where there is one" },
      {
        flags: "--endpoint <ADDRESS>",
        description: "what the app dials, as home.example.org:51820; default: where the exit node is known to be open",
      },
      { flags: "--only-network", description: "send the network's own addresses through the tunnel, and nothing else" },
      { flags: "--user <LOGIN>", description: "whose device it is; default: nobody's" },
      { flags: "--tag <TAG>", description: "what it is to the policy; may be repeated", repeatable: true },
    ],
    run: async (call) => (await import("./deviceadd.js")).addDevice(call),
  },
  {
    usage: "device approve <device>",
    summary: "Let a device that waits for approval have its peers; it works at once",
    run: async (call) => (await import("./devicedecisions.js")).approveDevice(call),
  },
  {
    usage: "device approval [on-or-off]",
    summary: "Show or say whether new devices wait for `exitnode device approve`; who is in stays in",
    run: async (call) => (await import("./devicedecisions.js")).approval(call),
  },
  {
    usage: "device rename <device> <name>",
    summary: "Give a device another name, in the network and in its DNS",
    run: async (call) => (await import("./devicedecisions.js")).renameDevice(call),
  },
  {
    usage: "device tag <device> [tags]",
    summary: "Say what a device is to the policy, as in server,backup; without tags it is its person's again",
    run: async (call) => (await import("./devicedecisions.js")).tagDevice(call),
  },
  {
    usage: "device expire <device>",
    summary: "End a device's key now: its peers do without it until its person signs in again",
    run: async (call) => (await import("./devicedecisions.js")).expireDevice(call),
  },
  {
    usage: "device never-expire <device>",
    summary: "Let a device's key last until it is revoked, also one that has ended",
    run: async (call) => (await import("./devicedecisions.js")).neverExpireDevice(call),
  },
  {
    usage: "device key-lifetime [duration]",
    summary: "Show or say after what time people's new devices have to sign in again; 0s: never",
    run: async (call) => (await import("./devicedecisions.js")).keyLifetime(call),
  },
  {
    usage: "device key-rotation [duration]",
    summary: "Show or say after what time a device makes itself a new WireGuard key; 0s: not by itself",
    run: async (call) => (await import("./devicedecisions.js")).keyRotation(call),
  },
  {
    usage: "device exit-key-lifetime [duration]",
    summary: "Show or say how long an exit node's WireGuard key counts; it makes a new one in time; 0s: for ever",
    run: async (call) => (await import("./devicedecisions.js")).exitKeyLifetime(call),
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
