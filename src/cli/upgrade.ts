import type { Command } from "./command.js";
import { ITS_HOST } from "./create.js";

/** What an exit node needs after its first day: another version, another kernel under it, a container of one's own. */
export const upgradeCommands: readonly Command[] = [
  {
    usage: "upgrade [name]",
    summary: "Put in this program's version; one that does not work is taken out again",
    options: [
      ITS_HOST,
      { flags: "--all", description: "every exit node of every host (or of --host), one after the other" },
      { flags: "--replace", description: "make a new container from the newest template, which takes its place" },
      { flags: "--dry-run", description: "only say what would be changed, and how the state of before would be kept" },
    ],
    run: async (call) => (await import("./upgradeaction.js")).upgradeExitNodes(call),
  },
  {
    usage: "repair <name>",
    summary: "Look anew at what the host offers, as after a Proxmox upgrade, and put right what does not fit",
    options: [ITS_HOST],
    run: async (call) => (await import("./repairaction.js")).repairExitNode(call),
  },
  {
    usage: "adopt <vmid>",
    summary: "Make an exit node of a Debian container that is there already",
    options: [
      ITS_HOST,
      { flags: "--name <NAME>", description: "what the exit node is called; default: the container's hostname" },
      {
        flags: "--host-key <FINGERPRINT>",
        description: "its SSH host key as SHA256:…, where Proxmox no longer tells of it",
      },
      { flags: "--yes", description: "do not ask" },
      { flags: "--privileged", description: "also when its root is the host's root" },
    ],
    run: async (call) => (await import("./adoptaction.js")).adoptContainer(call),
  },
];
