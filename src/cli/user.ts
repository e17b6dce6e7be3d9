import type { Command } from "./command.js";

export const userCommands: readonly Command[] = [
  {
    usage: "user list",
    summary: "Show the people of the network, their roles, and when they were last here",
    run: async (call) => (await import("./useractions.js")).listUsers(call),
  },
  {
    usage: "user add <login>",
    summary: "Add a person by name or e-mail address; who signs in at the identity provider by that address is them",
    options: [
      { flags: "--role <ROLE>", description: "member (the default), auditor, admin or owner" },
      { flags: "--display-name <NAME>", description: "what they are called on pages" },
    ],
    run: async (call) => (await import("./useractions.js")).addUser(call),
  },
  {
    usage: "user invite <login>",
    summary: "Print a one-time link with which a person makes a passkey, adding them first where they are not known",
    options: [
      {
        flags: "--role <ROLE>",
        description: "what they are to be: member (of somebody new the default), auditor, admin or owner",
      },
    ],
    run: async (call) => (await import("./useractions.js")).inviteUser(call),
  },
  {
    usage: "user role <login> <role>",
    summary: "Make a person owner, admin, auditor or member",
    run: async (call) => (await import("./useractions.js")).giveRole(call),
  },
  {
    usage: "user disable <login>",
    summary: "Shut a person out at once: their sessions end, and the keys of their devices",
    run: async (call) => (await import("./useractions.js")).disableUser(call),
  },
  {
    usage: "user enable <login>",
    summary: "Let a disabled person sign in again, and their devices after them",
    run: async (call) => (await import("./useractions.js")).enableUser(call),
  },
  {
    usage: "user forget-passkeys <login>",
    summary: "Make a person's passkeys useless, for a lost phone; then: exitnode user invite",
    run: async (call) => (await import("./useractions.js")).forgetPasskeys(call),
  },
];
