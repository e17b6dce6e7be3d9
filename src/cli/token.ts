import type { Command } from "./command.js";

export const tokenCommands: readonly Command[] = [
  {
    usage: "token create",
    summary: "Make a token for a program that uses the coordinator's API; it is shown this once",
    options: [
      {
        flags: "--scope <SCOPE>",
        description: "what it may, as in devices:read; may be repeated, and has to be given",
        repeatable: true,
      },
      { flags: "--expires <DURATION>", description: "how long it is good for: 30d, 12h; default 90d, at most 365d" },
      { flags: "--name <NAME>", description: "what it is for" },
    ],
    run: async (call) => (await import("./tokenactions.js")).createToken(call),
  },
  {
    usage: "token list",
    summary: "Show the API tokens and when each was last used",
    run: async (call) => (await import("./tokenactions.js")).listTokens(call),
  },
  {
    usage: "token revoke <id>",
    summary: "Make an API token useless",
    run: async (call) => (await import("./tokenactions.js")).revokeToken(call),
  },
];
