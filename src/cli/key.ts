import type { Command } from "./command.js";

export const keyCommands: readonly Command[] = [
  {
    usage: "key create",
    summary: "Make a join key: with it, one machine may become a device or an exit node of the network",
    options: [
      { flags: "--role <ROLE>", description: "device (the default) or exit-node" },
      {
        flags: "--expires <DURATION>",
        description: "how long it may be used: 15m (the default), 24h, 7d, at most 90d",
      },
      { flags: "--lifetime <DURATION>", description: "the same as --expires" },
      { flags: "--name <NAME>", description: "the name that the machine gets; default: the one it asks for" },
      { flags: "--user <LOGIN>", description: "whose devices it makes; default: nobody's" },
      { flags: "--reusable", description: "let any number of machines in, until it expires or is revoked" },
      {
        flags: "--tag <TAG>",
        description: "what its devices are to the policy, instead of a person's; may be repeated",
        repeatable: true,
      },
      { flags: "--ephemeral", description: "forget its devices five minutes after they leave" },
      { flags: "--preapproved", description: "let its devices in even where the network asks for approval" },
      { flags: "--no-preapproved", description: "let each of its devices wait for `exitnode device approve`" },
    ],
    run: async (call) => (await import("./keyactions.js")).createKey(call),
  },
  {
    usage: "key list",
    summary: "Show the join keys and what became of them; their secrets are not kept",
    run: async (call) => (await import("./keyactions.js")).listKeys(call),
  },
  {
    usage: "key revoke <id>",
    summary: "Make a join key useless; machines that are in stay in",
    run: async (call) => (await import("./keyactions.js")).revokeKey(call),
  },
];
