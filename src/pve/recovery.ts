import type { Engine } from "./engine.js";
import * as guestReplies from "./guestreplies.js";
import type { PveParams, Resources } from "./guests.js";
import * as replies from "./replies.js";
import type { Upid } from "./upid.js";

/** Going back to what was: restores and the care of backups; and where in a cluster everything is. */
export interface PveRecovery {
  /** A container from a backup; the options of the backup hold unless others are given. */
  restore(node: string, restore: Restore): Promise<Upid>;
  /** The configuration the backup was made with, as the text Proxmox keeps. */
  backupConfig(node: string, volid: string): Promise<string>;
  /** Notes are shown beside a backup; a protected one is not deleted, neither by hand nor by pruning. */
  markBackup(node: string, storage: string, volid: string, marks: BackupMarks): Promise<void>;
  /** Everything of the cluster the login may see, in one call; of a host by itself, its own. */
  resources(): Promise<Resources>;
}

export type Restore = {
  readonly vmid: number;
  readonly backup: string;
  /** Where its disk goes. */
  readonly storage: string;
  /** That of the backup when left out. */
  readonly sizeGib?: number;
  /** New MAC addresses: needed when the container it was made of goes on. */
  readonly unique?: boolean;
  /** In the place of a container that is stopped; its disk and its snapshots are lost. */
  readonly force?: boolean;
  readonly start?: boolean;
  /** Options that replace those of the backup, named as the API names them. */
  readonly options?: PveParams;
};
export type BackupMarks = { readonly notes?: string; readonly protected?: boolean };

export function recoveryCalls(engine: Engine): PveRecovery {
  return {
    async restore(node, { vmid, backup, storage, sizeGib, unique, force, start, options }) {
      const params: PveParams = {
        ...options,
        vmid,
        ostemplate: backup,
        restore: true,
        storage,
        ...(sizeGib === undefined ? {} : { rootfs: `${storage}:${sizeGib}` }),
        unique,
        force,
        start,
      };
      return replies.upidReply(await engine.call("POST", ["nodes", node, "lxc"], params));
    },
    backupConfig: async (node, volume) =>
      replies.textReply(await engine.call("GET", ["nodes", node, "vzdump", "extractconfig"], { volume })),
    async markBackup(node, storage, volid, marks) {
      await engine.call("PUT", ["nodes", node, "storage", storage, "content", volid], { ...marks });
    },
    resources: async () => guestReplies.resourcesReply(await engine.call("GET", ["cluster", "resources"])),
  };
}
