import { applianceCommands } from "./appliance.js";
import type { Command } from "./command.js";
import { tableCommands } from "./completion.js";
import { coordinatorCommands } from "./coordinator.js";
import { createCommands } from "./create.js";
import { deviceCommands } from "./device.js";
import { exportCommands } from "./export.js";
import { hostCommands } from "./host.js";
import { keyCommands } from "./key.js";
import { labCommands } from "./lab.js";
import { machineCommands } from "./machine.js";
import { relayCommands } from "./relay.js";
import { schemaCommands } from "./schema.js";
import { upgradeCommands } from "./upgrade.js";

/** Every command, in the order of `--help`. */
export const commands: readonly Command[] = [
  ...createCommands,
  ...upgradeCommands,
  ...exportCommands,
  ...machineCommands,
  ...hostCommands,
  ...keyCommands,
  ...deviceCommands,
  ...coordinatorCommands,
  ...relayCommands,
  ...applianceCommands,
  ...labCommands,
  ...schemaCommands,
  ...tableCommands(() => commands),
];
