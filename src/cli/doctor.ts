import type { Command } from "./command.js";

/** When something does not work, and nobody knows why. */
export const doctorCommands: readonly Command[] = [
  {
    usage: "doctor",
    summary: "Look for known trouble here and on your hosts, and print what mends it; exit code 1 when something stops",
    options: [
      {
        flags: "--host <HOST>",
        description: "this host and its exit nodes alone; may be repeated; default: every host, and this machine",
        repeatable: true,
      },
    ],
    run: async (call) => (await import("./doctoraction.js")).doctor(call),
  },
];
