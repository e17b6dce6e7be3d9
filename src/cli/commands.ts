import { applianceCommands } from "./appliance.js";
import type { Command } from "./command.js";
import { coordinatorCommands } from "./coordinator.js";
import { createCommands } from "./create.js";
import { deviceCommands } from "./device.js";
import { hostCommands } from "./host.js";
import { keyCommands } from "./key.js";
import { labCommands } from "./lab.js";
import { machineCommands } from "./machine.js";
import { relayCommands } from "./relay.js";

/** Every command, in the order of `--help`. */
export const commands: readonly Command[] = [
  ...createCommands,
  ...machineCommands,
  ...hostCommands,
  ...keyCommands,
  ...deviceCommands,
  ...coordinatorCommands,
  ...relayCommands,
  ...applianceCommands,
  ...labCommands,
];
