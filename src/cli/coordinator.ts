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
    usage: "coordinator openapi",
    summary: "Print the coordinator's HTTP API as an OpenAPI 3.1 document",
    run: async (call) => (await import("./coordinatoractions.js")).openApi(call),
  },
  {
    usage: "coordinator backup [file]",
    summary: "Write the coordinator's store and keys into one file; the coordinator goes on running",
    options: LOGIN_OPTIONS,
    run: async (call) => (await import("./coordinatorkeep.js")).backup(call),
  },
  {
    usage: "coordinator restore <file>",
    summary: "Make the coordinator the one of a backup: its devices come back to it by themselves",
    options: [...LOGIN_OPTIONS, { flags: "--yes", description: "do not ask" }],
    run: async (call) => (await import("./coordinatorkeep.js")).restore(call),
  },
  {
    usage: "coordinator move",
    summary: "Bring the coordinator to another machine: same keys, same devices, which follow by themselves",
    options: [
      ...LOGIN_OPTIONS.map(({ flags, description }) =>
        flags.startsWith("--ssh")
          ? { flags, description: "where it is, as root@host or root@host:port" }
          : { flags, description },
      ),
      { flags: "--to <TARGET>", description: "where it is to be, as root@host or root@host:port" },
      { flags: "--to-host-key <KEY>", description: "the SSH host key of the machine of --to; asked for otherwise" },
      {
        flags: "--url <URL>",
        description: "how devices reach it there; default: as before, where a name leads to it; may be repeated",
        repeatable: true,
      },
      { flags: "--yes", description: "also when devices that are away would not learn the new URL" },
    ],
    run: async (call) => (await import("./coordinatormove.js")).coordinatorMove(call),
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
