import type { Command } from "./command.js";

export const webhookCommands: readonly Command[] = [
  {
    usage: "webhook add <url>",
    summary: "Tell a URL of every change in the network, signed, as JSON",
    options: [
      {
        flags: "--on <ACTION>",
        description: "of which: device.join, 'device.*', …; default: all; may be repeated",
        repeatable: true,
      },
    ],
    run: async (call) => (await import("./webhookactions.js")).addWebhook(call),
  },
  {
    usage: "webhook list",
    summary: "Show the webhooks, and how many events wait for each",
    run: async (call) => (await import("./webhookactions.js")).listWebhooks(call),
  },
  {
    usage: "webhook test <id>",
    summary: "Send a test event now; a webhook that was given up is taken up again when it arrives",
    run: async (call) => (await import("./webhookactions.js")).testWebhook(call),
  },
  {
    usage: "webhook remove <id>",
    summary: "Tell a URL no more",
    run: async (call) => (await import("./webhookactions.js")).removeWebhook(call),
  },
];
