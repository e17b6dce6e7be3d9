import type { Command } from "./command.js";
import { LOGIN_OPTIONS } from "./loginoptions.js";

export const relayCommands: readonly Command[] = [
  {
    usage: "relay",
    summary: "Run a relay on this machine, in the foreground: it forwards what finds no direct path, and answers STUN",
    options: [
      { flags: "--config <FILE>", description: "read everything from this file instead (relay.json)" },
      {
        flags: "--coordinator-key <KEY>",
        description: "whose devices it serves: the coordinator's admission key; may be repeated",
        repeatable: true,
      },
      { flags: "--listen <PORT>", description: "where it listens; default: 443" },
      {
        flags: "--stun-port <PORT>",
        description: "where it answers STUN, there and on the next port; 0 for nowhere; default: 3478",
      },
      {
        flags: "--host <NAME>",
        description: "a name or address for its certificate; may be repeated",
        repeatable: true,
      },
      { flags: "--tls-cert <FILE>", description: "a certificate of your own; default: one is made" },
      { flags: "--tls-key <FILE>", description: "its private key" },
      { flags: "--metrics-port <PORT>", description: "where Prometheus reads its figures, on 127.0.0.1" },
    ],
    run: async (call) => (await import("./relayaction.js")).relay(call),
  },
  {
    usage: "relay up",
    summary: "Put a relay on a machine that lets root in by SSH, and into the network's map",
    options: [
      ...LOGIN_OPTIONS,
      { flags: "--name <NAME>", description: "what it is called; default: the machine's name" },
      { flags: "--url <URL>", description: "how devices reach it; default: https://<the machine>" },
      { flags: "--stun-port <PORT>", description: "where it answers STUN, there and on the next port; default: 3478" },
    ],
    run: async (call) => (await import("./relayup.js")).relayUp(call),
  },
  {
    usage: "relay list",
    summary: "Show the relays of the network, the one beside the coordinator first",
    run: async (call) => (await import("./relayup.js")).listRelays(call),
  },
  {
    usage: "relay remove <name>",
    summary: "Take a relay out of the network's map",
    run: async (call) => (await import("./relayup.js")).removeRelay(call),
  },
];
