import type { Command } from "./command.js";

export const policyCommands: readonly Command[] = [
  {
    usage: "policy show",
    summary: "Show the policy that holds: who may reach what",
    run: async (call) => (await import("./policyactions.js")).showPolicy(call),
  },
  {
    usage: "policy preview <file>",
    summary: "Show who would gain and lose what by a policy; nothing is changed",
    run: async (call) => (await import("./policyactions.js")).previewPolicy(call),
  },
  {
    usage: "policy test [file]",
    summary: "Run the tests in a policy file, or in the policy that holds",
    run: async (call) => (await import("./policyactions.js")).testPolicy(call),
  },
  {
    usage: "policy set <file>",
    summary: "Test a policy, show what it changes, ask, and make it the one that holds",
    options: [{ flags: "--yes", description: "do not ask" }],
    run: async (call) => (await import("./policyactions.js")).setPolicy(call),
  },
  {
    usage: "policy log",
    summary: "Show the policies there were: which version, when, by whom",
    run: async (call) => (await import("./policyactions.js")).listPolicies(call),
  },
  {
    usage: "policy rollback <version>",
    summary: "Make an older policy hold again, as a new version",
    run: async (call) => (await import("./policyactions.js")).rollBackPolicy(call),
  },
];

export const routeCommands: readonly Command[] = [
  {
    usage: "route list",
    summary: "Show the routes through devices, and which of them wait for approval",
    run: async (call) => (await import("./routeactions.js")).listRoutes(call),
  },
  {
    usage: "route approve <device> <prefix>",
    summary: "Let devices that the policy allows it reach a prefix through a device",
    run: async (call) => (await import("./routeactions.js")).approveRoute(call),
  },
  {
    usage: "route withdraw <device> <prefix>",
    summary: "Take the approval of a route back",
    run: async (call) => (await import("./routeactions.js")).withdrawRoute(call),
  },
];
