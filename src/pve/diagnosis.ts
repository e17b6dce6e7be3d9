import * as z from "zod";
import type { Engine } from "./engine.js";
import type { FailedTask, FirewallRule, PveDiagnosis } from "./guests.js";
import { flag, list, reader, text } from "./reader.js";
import { parseUpid } from "./upid.js";

/** What only a look at the host's health asks for. */
export function diagnosisCalls(engine: Engine): PveDiagnosis {
  return {
    skewMs: async () => engine.skewMs(),
    async guestFirewall(node, vmid) {
      const path = ["nodes", node, "lxc", vmid, "firewall"];
      const options = optionsReply(await engine.call("GET", [...path, "options"]));
      return { ...options, rules: rulesReply(await engine.call("GET", [...path, "rules"])) };
    },
    firewallOn: async () => optionsReply(await engine.call("GET", ["cluster", "firewall", "options"])).on,
    failedTasks: async (node) =>
      failedTasksReply(await engine.call("GET", ["nodes", node, "tasks"], { errors: true, limit: FAILED_TASKS_MAX })),
  };
}

/** What went wrong longer ago is of no concern to whoever looks for what is wrong now. */
const FAILED_TASKS_MAX = 20;

const failedTasksReply = reader(
  "failed tasks",
  list(
    z
      .object({ upid: z.string(), status: text })
      .transform(({ upid, status }): FailedTask => ({ upid: parseUpid(upid), exit: status })),
  ),
);

const optionsReply = reader(
  "the firewall",
  z
    .object({ enable: flag, ipfilter: flag, policy_in: text, policy_out: text })
    .transform(({ enable, ipfilter, policy_in, policy_out }) => ({
      on: enable,
      ipFilter: ipfilter,
      // As Proxmox has them when nothing is set.
      policyIn: policy_in || "DROP",
      policyOut: policy_out || "ACCEPT",
    })),
);

const rulesReply = reader(
  "the firewall's rules",
  list(
    z
      .object({ enable: flag, type: text, action: text, proto: text, dport: text, source: text })
      .transform(({ enable, ...rule }): FirewallRule => ({ on: enable, ...rule })),
  ),
);
