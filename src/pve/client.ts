import { proxmoxApi } from "proxmox-api";
import { Failure } from "../kit/failure.js";
import { accessCalls } from "./access.js";
import { diagnosisCalls } from "./diagnosis.js";
import { type Engine, type EngineParts, type Login, openEngine } from "./engine.js";
import { namingHost } from "./errors.js";
import * as guestReplies from "./guestreplies.js";
import type { PveGuests, PveHost, PveParams } from "./guests.js";
import { type PveRecovery, recoveryCalls } from "./recovery.js";
import * as replies from "./replies.js";
import { taskLog, waitTask } from "./tasks.js";
import { upload } from "./upload.js";

/**
 * A Proxmox VE host over HTTPS: proxmox-api's tree for what it knows, `engine.call` for what is newer than its
 * types (they are of Proxmox VE 8) or takes free parameters.
 */
export function connectPve(parts: EngineParts, login: Login): PveHost & PveRecovery {
  const engine = openEngine(parts, login);
  const api = proxmoxApi(engine);
  return {
    ...guestCalls(engine),
    ...accessCalls(engine),
    ...recoveryCalls(engine),
    ...diagnosisCalls(engine),
    version: async () => replies.versionReply(await api.version.$get()),
    nodes: async () => replies.nodesReply(await api.nodes.$get()),
    nodeStatus: async (node) => replies.nodeStatusReply(await api.nodes.$(node).status.$get()),
    storages: async (node) => replies.storagesReply(await api.nodes.$(node).storage.$get()),
    bridges: async (node) => replies.bridgesReply(await api.nodes.$(node).network.$get()),
    async permissions(paths) {
      if (paths === undefined) return replies.permissionsReply(await api.access.permissions.$get());
      const each = await Promise.all(
        [...new Set(paths)].map(async (path) => {
          const held = replies.permissionsReply(await api.access.permissions.$get({ path }));
          return [path, held.get(path) ?? new Map<string, { propagates: boolean }>()] as const;
        }),
      );
      return new Map(each);
    },
    templates: async (node, storage) =>
      guestReplies.volumesReply(await api.nodes.$(node).storage.$(storage).content.$get({ content: "vztmpl" })),
    async backups(node, storage, vmid) {
      const listed = await api.nodes.$(node).storage.$(storage).content.$get({ content: "backup", vmid });
      return guestReplies.volumesReply(listed).sort((left, right) => right.createdAtSeconds - left.createdAtSeconds);
    },
    pools: async () => replies.poolsReply(await api.pools.$get()),
    packages: async (node) => replies.packagesReply(await api.nodes.$(node).apt.versions.$get()),
    upload: (node, storage, file, options) => upload(engine, parts.clock, node, storage, file, options),
    deleteVolume: async (node, storage, volid) =>
      replies.upidReply(await engine.call("DELETE", ["nodes", node, "storage", storage, "content", volid])),
    waitTask: (upid, options) =>
      waitTask(engine, parts.clock, upid, {
        ...(login.signal === undefined ? {} : { signal: login.signal }),
        ...options,
      }).catch((error: unknown) => {
        throw error instanceof Failure ? namingHost(error, login.name) : error;
      }),
    taskLog: (upid) => taskLog(engine, upid),
    tasks: async (node, vmid) =>
      replies.tasksReply(await engine.call("GET", ["nodes", node, "tasks"], { vmid, source: "all", limit: TASKS_MAX })),
    close: () => engine.close(),
  };
}

/** A container has a handful; more than this of its past is nobody's concern. */
const TASKS_MAX = 100;

function guestCalls(engine: Engine): PveGuests {
  const api = proxmoxApi(engine);
  const begun = async (node: string, path: readonly (string | number)[], params?: PveParams) =>
    replies.upidReply(await engine.call("POST", ["nodes", node, ...path], params));
  return {
    nextVmid: async () => replies.vmidReply(await api.cluster.nextid.$get()),
    guests: async () => guestReplies.guestsReply(await api.cluster.resources.$get({ type: "vm" })),
    config: (node, vmid) =>
      unlessUnknown(async () => replies.configReply(await engine.call("GET", ["nodes", node, "lxc", vmid, "config"]))),
    status: (node, vmid) =>
      unlessUnknown(async () => guestReplies.statusReply(await api.nodes.$(node).lxc.$(vmid).status.current.$get())),
    interfaces: async (node, vmid) =>
      guestReplies.interfacesReply(await engine.call("GET", ["nodes", node, "lxc", vmid, "interfaces"])),
    create: (node, params) => begun(node, ["lxc"], params),
    start: (node, vmid) => begun(node, ["lxc", vmid, "status", "start"]),
    stop: (node, vmid) => begun(node, ["lxc", vmid, "status", "stop"]),
    shutdown: (node, vmid, timeout) => begun(node, ["lxc", vmid, "status", "shutdown"], { timeout }),
    destroy: async (node, vmid) =>
      replies.upidReply(
        await engine.call("DELETE", ["nodes", node, "lxc", vmid], { purge: true, "destroy-unreferenced-disks": true }),
      ),
    async setConfig(node, vmid, changes) {
      // This writes the name of a volume into the config without making one; the container then neither starts nor goes.
      if (changes.rootfs !== undefined)
        throw new Failure("option-read-only", "rootfs cannot be set on a container that exists", {
          advice: "use resize",
        });
      await engine.call("PUT", ["nodes", node, "lxc", vmid, "config"], changes);
    },
    canSnapshot: async (node, vmid) =>
      guestReplies.featureReply(
        await engine.call("GET", ["nodes", node, "lxc", vmid, "feature"], { feature: "snapshot" }),
      ),
    snapshots: async (node, vmid) =>
      guestReplies.snapshotsReply(await engine.call("GET", ["nodes", node, "lxc", vmid, "snapshot"])),
    snapshot: (node, vmid, snapname, description) => begun(node, ["lxc", vmid, "snapshot"], { snapname, description }),
    rollback: (node, vmid, name, start) => begun(node, ["lxc", vmid, "snapshot", name, "rollback"], { start }),
    deleteSnapshot: async (node, vmid, name) =>
      replies.upidReply(await engine.call("DELETE", ["nodes", node, "lxc", vmid, "snapshot", name])),
    backup: (node, vmid, storage, { mode, notes }) =>
      begun(node, ["vzdump"], { vmid, storage, mode, compress: "zstd", remove: false, "notes-template": notes }),
    clone: (node, vmid, params) => begun(node, ["lxc", vmid, "clone"], params),
    resize: async (node, vmid, sizeGib) =>
      replies.upidReply(
        await engine.call("PUT", ["nodes", node, "lxc", vmid, "resize"], { disk: "rootfs", size: `${sizeGib}G` }),
      ),
  };
}

async function unlessUnknown<T>(asking: () => Promise<T>): Promise<T | undefined> {
  return asking().catch((error: unknown) => {
    if (error instanceof Failure && error.code === "container-unknown") return undefined;
    throw error;
  });
}
