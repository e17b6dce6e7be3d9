import { applianceCommands } from "./appliance.js";
import { auditCommands } from "./audit.js";
import type { Command } from "./command.js";
import { tableCommands } from "./completion.js";
import { coordinatorCommands } from "./coordinator.js";
import { createCommands } from "./create.js";
import { deviceCommands } from "./device.js";
import { doctorCommands } from "./doctor.js";
import { exportCommands } from "./export.js";
import { hostCommands } from "./host.js";
import { keyCommands } from "./key.js";
import { labCommands } from "./lab.js";
import { lockCommands } from "./lock.js";
import { machineCommands } from "./machine.js";
import { nameCommands } from "./names.js";
import { policyCommands, routeCommands } from "./policy.js";
import { relayCommands } from "./relay.js";
import { schemaCommands } from "./schema.js";
import { tokenCommands } from "./token.js";
import { upgradeCommands } from "./upgrade.js";
import { userCommands } from "./user.js";
import { webhookCommands } from "./webhook.js";

/** Every command, in the order of `--help`. */
export const commands: readonly Command[] = [
  ...createCommands,
  ...upgradeCommands,
  ...exportCommands,
  ...machineCommands,
  ...hostCommands,
  ...doctorCommands,
  ...keyCommands,
  ...deviceCommands,
  ...lockCommands,
  ...userCommands,
  ...tokenCommands,
  ...policyCommands,
  ...routeCommands,
  ...coordinatorCommands,
  ...nameCommands,
  ...relayCommands,
  ...auditCommands,
  ...webhookCommands,
  ...applianceCommands,
  ...labCommands,
  ...schemaCommands,
  ...tableCommands(() => commands),
];
