import type { Command } from "./command.js";

export const auditCommands: readonly Command[] = [
  {
    usage: "audit",
    summary: "Show who changed what in the network, when and from where",
    options: [
      { flags: "--since <WHEN>", description: "no older than that: 90m, 24h, 7d, or a date such as 2026-03-01" },
      { flags: "--until <WHEN>", description: "no newer than that" },
      { flags: "--actor <NAME>", description: "what one did: socket, admin-token, token:ID, user:ID, device:ID" },
      { flags: "--action <ACTION>", description: "one action, device.revoke, or all of a kind: 'device.*'" },
      { flags: "--target <ID>", description: "what was done to one device, key, user or other thing" },
      { flags: "--limit <N>", description: "how many, the newest first; default: 50" },
    ],
    run: async (call) => (await import("./auditactions.js")).showAudit(call),
  },
  {
    usage: "audit verify",
    summary: "Check that no entry of the audit log was altered or taken out, and show what to compare next time",
    options: [
      {
        flags: "--noted <ENTRY>",
        description: "what an earlier check showed: the log must still contain it",
      },
    ],
    run: async (call) => (await import("./auditactions.js")).verifyAudit(call),
  },
];
