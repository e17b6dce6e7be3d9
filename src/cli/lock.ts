import type { Command } from "./command.js";

const YES = { flags: "--yes", description: "without asking" };
const FINGERPRINT = {
  flags: "--fingerprint <F>",
  description: "as `exitnode lock status` shows it on the device: without asking, and only if it is the same",
};

export const lockCommands: readonly Command[] = [
  {
    usage: "lock status",
    summary: "Show who is trusted, which devices wait for a signature, and the fingerprints to compare",
    run: async (call) => (await import("./lockactions.js")).lockStatus(call),
  },
  {
    usage: "lock enable",
    summary: "From now on a device gets in when a trusted device has signed it; this one is the first trusted",
    options: [YES],
    run: async (call) => (await import("./lockactions.js")).enableLock(call),
  },
  {
    usage: "lock sign <device...>",
    summary: "Let devices in that wait for a signature; on a trusted device",
    options: [FINGERPRINT, YES],
    run: async (call) => (await import("./lockchanges.js")).signDevices(call),
  },
  {
    usage: "lock trust <device>",
    summary: "Let another device sign too; on a trusted device",
    options: [FINGERPRINT, YES],
    run: async (call) => (await import("./lockchanges.js")).trustDevice(call),
  },
  {
    usage: "lock distrust <device>",
    summary: "Let a device sign no more; it and those it has signed stay in; on another trusted device",
    options: [
      {
        flags: "--shut-out",
        description: "for one that was stolen: it is shut out, and those it has signed wait for a signature",
      },
    ],
    run: async (call) => (await import("./lockchanges.js")).distrustDevice(call),
  },
  {
    usage: "lock shut-out <device>",
    summary: "Take back what was signed for a device, by its name or fingerprint; on a trusted device",
    run: async (call) => (await import("./lockchanges.js")).shutOutDevice(call),
  },
  {
    usage: "lock disable",
    summary: "End the device lock with the secret that `exitnode lock enable` has shown",
    options: [{ flags: "--secret-stdin", description: "read the secret from stdin" }],
    run: async (call) => (await import("./lockactions.js")).disableLock(call),
  },
  {
    usage: "lock forget",
    summary: "Without the secret: this machine alone forgets the lock, and believes the next one it hears of",
    options: [YES],
    run: async (call) => (await import("./lockactions.js")).forgetLock(call),
  },
];
