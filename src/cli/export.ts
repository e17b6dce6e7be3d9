import type { Command } from "./command.js";
import { ITS_HOST, SHAPE } from "./create.js";

/** `export`: the same container for a tool that somebody uses already. */
const NOT_EXPORTED = /^--(?:name|coordinator|public-address|data-plane) /;

export const exportCommands: readonly Command[] = [
  {
    usage: "export <name>",
    summary: "Print an exit node's container for Terraform, Ansible or pct, made or not made yet; no secret is in it",
    options: [
      { flags: "--format <KIND>", description: "terraform, ansible or pct" },
      ...[ITS_HOST, ...SHAPE].filter(({ flags }) => !NOT_EXPORTED.test(flags)),
    ],
    run: async (call) => (await import("./exportaction.js")).exportExitNode(call),
  },
];
