import type { Command } from "./command.js";
import { LOGIN_OPTIONS } from "./loginoptions.js";

export const coordinatorCommands: readonly Command[] = [
  {
    usage: "coordinator up",
    summary: "Put a coordinator, with a relay and STUN beside it, on a machine that lets root in by SSH",
    options: [
      ...LOGIN_OPTIONS,
      {
        flags: "--url <URL>",
        description: "how devices reach it; default: https://<the machine>; may be repeated",
        repeatable: true,
      },
      { flags: "--stun-port <PORT>", description: "where it answers STUN, there and on the next port; default: 3478" },
    ],
    run: async (call) => (await import("./coordinatorup.js")).coordinatorUp(call),
  },
  {
    usage: "coordinator status",
    summary: "Show the coordinator: version, where devices reach it, how many are there",
    run: async (call) => (await import("./coordinatoractions.js")).status(call),
  },
  {
    usage: "coordinator forget",
    summary: "Strike a coordinator that is gone for good from this machine's config; the next `create` makes a new one",
    options: [{ flags: "--yes", description: "do not ask" }],
    run: async (call) => (await import("./coordinatoractions.js")).forget(call),
  },
  {
    usage: "serve",
    summary: "Run a coordinator on this machine, in the foreground",
    options: [
      {
        flags: "--url <URL>",
        description: "how devices reach it, https://host[:port]; may be repeated",
        repeatable: true,
      },
      { flags: "--port <PORT>", description: "where it listens; default: the port of the first URL" },
    ],
    run: async (call) => (await import("./serveaction.js")).serve(call),
  },
];
