import { hasFeature } from "../disk.js";
import { outwardAll } from "../guestconfig.js";
import { type Call, type Handlers, text, vmidOf } from "../pve.js";
import { failed } from "../refusal.js";
import { deleteSnapshotTask, known, rollbackTask, snapshotTask } from "../snapshot.js";
import type { Feature } from "../storage.js";

export const snapshotMethods: Handlers = {
  "GET /nodes/{node}/lxc/{vmid}/feature": ({ pve, params }) => {
    const { config } = pve.guests.read(Number(params.vmid));
    const name = text(params, "snapname");
    const options = name === undefined ? config.options : knownOrRefused(config, name);
    return { hasFeature: hasFeature(pve, options, String(params.feature) as Feature) ? 1 : 0 };
  },

  "GET /nodes/{node}/lxc/{vmid}/snapshot": (call) => {
    const vmid = vmidOf(call);
    const { config, digest } = call.pve.guests.read(vmid);
    const running = call.pve.runtime.running(vmid) === undefined ? 0 : 1;
    const listed = [...config.snapshots].map(([name, { description, snaptime, parent, snapstate }]) => ({
      name,
      description: description ?? "",
      snaptime: Number(snaptime),
      ...(parent === undefined ? {} : { parent }),
      ...(snapstate === undefined ? {} : { snapstate }),
    }));
    const { parent } = config.options;
    const current = { name: "current", description: "You are here!", digest, running };
    return [...listed, parent === undefined ? current : { ...current, parent }];
  },

  "POST /nodes/{node}/lxc/{vmid}/snapshot": (call) => {
    const name = String(call.params.snapname);
    if (name === "current") throw failed("unable to use snapshot name 'current' (reserved name)");
    // vzdump's own snapshots go by this name.
    if (name === "vzdump") throw failed("unable to use snapshot name 'vzdump' (reserved name)");
    return snapshotTask(call.pve, call.caller, vmidOf(call), name, text(call.params, "description"));
  },

  "GET /nodes/{node}/lxc/{vmid}/snapshot/{snapname}": () => [{ cmd: "rollback" }, { cmd: "config" }],

  "DELETE /nodes/{node}/lxc/{vmid}/snapshot/{snapname}": (call) =>
    deleteSnapshotTask(call.pve, call.caller, vmidOf(call), String(call.params.snapname)),

  "POST /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/rollback": (call) =>
    rollbackTask(call.pve, call.caller, vmidOf(call), String(call.params.snapname), call.params.start === 1),

  "GET /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config": (call) =>
    outwardAll(knownOrRefused(call.pve.guests.read(vmidOf(call)).config, String(call.params.snapname))),

  "PUT /nodes/{node}/lxc/{vmid}/snapshot/{snapname}/config": async (call: Call) => {
    const { pve, params } = call;
    const vmid = vmidOf(call);
    await pve.guests.locked(vmid, async () => {
      const { config } = pve.guests.read(vmid);
      const snapshot = knownOrRefused(config, String(params.snapname));
      const description = text(params, "description");
      if (description !== undefined) snapshot.description = `${description.trimEnd()}\n`;
      pve.guests.write(vmid, config);
    });
    return null;
  },
};

function knownOrRefused(...[config, name]: Parameters<typeof known>): Record<string, string> {
  try {
    return known(config, name);
  } catch (error) {
    throw failed(error instanceof Error ? error.message : String(error));
  }
}
