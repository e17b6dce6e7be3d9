import type { Command } from "./command.js";

export const nameCommands: readonly Command[] = [
  {
    usage: "names show",
    summary: "Show the network's domain, its extra names, and who is asked for everything else",
    run: async (call) => (await import("./namesactions.js")).showNames(call),
  },
  {
    usage: "names set",
    summary: "Change the network's domain, or the resolvers that every device asks",
    options: [
      { flags: "--domain <DOMAIN>", description: "devices are <device>.<DOMAIN>; at first: exitnode.internal" },
      {
        flags: "--resolver <IP>",
        description: "asked by every device instead of those of the network it is in; may be repeated",
        repeatable: true,
      },
      { flags: "--no-resolvers", description: "every device asks the resolvers of the network it is in" },
    ],
    run: async (call) => (await import("./namesactions.js")).setNames(call),
  },
  {
    usage: "names add <name> [address...]",
    summary: "Give a name addresses; or with --resolver, send look-ups below a domain to resolvers of its own",
    options: [
      {
        flags: "--resolver <IP>",
        description: "a resolver for what is below the name; may be repeated",
        repeatable: true,
      },
    ],
    run: async (call) => (await import("./namesactions.js")).addName(call),
  },
  {
    usage: "names remove <name>",
    summary: "Take away what `names add` gave a name",
    run: async (call) => (await import("./namesactions.js")).removeName(call),
  },
];
