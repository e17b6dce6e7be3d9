import type { Command } from "./command.js";

/** `appliance build / verify / upload`: the container template. */
const MIRROR = {
  flags: "--mirror <URL>",
  description: "the Debian archive to take packages from; default: apt's own",
} as const;
const PUBLIC_KEY = {
  flags: "--public-key <KEY>",
  description:
    "who must have signed it: a key as `appliance build` prints it, or a PEM file; default: this machine's own",
} as const;

export const applianceCommands: readonly Command[] = [
  {
    usage: "appliance build",
    summary:
      "Build and sign the container template from Debian's packages: as root on a Debian machine, or on a Proxmox host",
    options: [
      { flags: "--output <DIR>", description: "put it there; default: the cache, where create and upload look" },
      MIRROR,
      { flags: "--fresh", description: "build even if the same was built in the last seven days" },
      { flags: "--on <HOST>", description: "build inside a throw-away container of this Proxmox host" },
    ],
    run: async (call) => (await import("./applianceactions.js")).buildAction(call),
  },
  {
    usage: "appliance verify <file>",
    summary: "Check a template's signature and sums, and look for what none may contain",
    options: [
      PUBLIC_KEY,
      { flags: "--rebuild", description: "build it once more, as root, and compare to the byte" },
      { ...MIRROR, description: `${MIRROR.description} (with --rebuild)` },
    ],
    run: async (call) => (await import("./applianceactions.js")).verifyAction(call),
  },
  {
    usage: "appliance upload [file]",
    summary: "Put the template into a storage of a Proxmox host, building it first if need be",
    options: [
      {
        flags: "--host <HOST>",
        description: "the Proxmox host, as it is called in `host list`; not needed with only one",
      },
      {
        flags: "--storage <ID>",
        description: "a storage for container templates; default: the first that may hold them",
      },
      PUBLIC_KEY,
    ],
    run: async (call) => (await import("./applianceupload.js")).uploadAction(call),
  },
];
