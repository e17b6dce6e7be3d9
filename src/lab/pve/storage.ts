import { existsSync, mkdirSync, readdirSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Archive, backupsIn } from "./archive.js";
import { failed } from "./refusal.js";

/**
 * The storages of a PVE node, each a folder below the storage folder, with the names its kind gives its volumes:
 *
 *   dir      local:101/vm-101-disk-0.raw           no snapshots
 *   btrfs    btr:101/subvol-101-disk-0.subvol      snapshots, but vzdump cannot use them
 *   zfspool  tank:subvol-101-disk-0                snapshots, linked clones of templates
 *
 * Whatever its kind, a disk is a plain directory, and a snapshot of it a copy.
 */
export type StorageKind = "dir" | "btrfs" | "zfspool";
export type StorageEntry = { readonly id: string; readonly type: StorageKind; readonly content: readonly string[] };
export type Feature = "snapshot" | "clone" | "copy" | "template";

export const LOCAL = "local";
export const LOCAL_ENTRY: StorageEntry = {
  id: LOCAL,
  type: "dir",
  content: ["iso", "vztmpl", "backup", "rootdir", "images", "snippets"],
};
/** As an installer with ZFS leaves them. */
export const DEFAULT_STORAGES: readonly StorageEntry[] = [
  LOCAL_ENTRY,
  { id: "local-zfs", type: "zfspool", content: ["rootdir", "images"] },
];

const FOLDERS: Readonly<Record<string, string>> = { vztmpl: "template/cache", iso: "template/iso", backup: "dump" };
export const TEMPLATE = /^[^/]+\.tar(?:\.(?:gz|xz|zst|bz2))?$/;
/** vm-101-disk-0.raw, base-101-disk-0.raw, subvol-101-disk-0, basevol-101-disk-0.subvol */
const DISK = /^(vm|base|subvol|basevol)-(\d+)-disk-(\d+)(?:\.(?:raw|subvol))?$/;

export type Volume = Archive & { readonly content: string };
export type Disk = { readonly vmid: number; readonly volid: string; readonly path: string; readonly format: string };

export class Storage {
  readonly entry: StorageEntry;
  readonly root: string;

  constructor(entry: StorageEntry, storageDir: string) {
    this.entry = entry;
    this.root = join(storageDir, entry.id);
    const held = Object.entries(FOLDERS).filter(([content]) => entry.content.includes(content));
    for (const folder of [...held.map(([, name]) => name), "images", "snapshots"])
      mkdirSync(join(this.root, folder), { recursive: true, mode: 0o755 });
  }

  get id(): string {
    return this.entry.id;
  }

  /** Bytes of the file system the folder is on. */
  space(): { total: number; used: number; avail: number } {
    const { bsize, blocks, bfree, bavail } = statfsSync(this.root);
    return { total: blocks * bsize, used: (blocks - bfree) * bsize, avail: bavail * bsize };
  }

  /** Where the volume of this name is, whether it exists or not. */
  pathOf(name: string): string {
    const [kind = "", file = "", ...rest] = name.split("/");
    const folder = FOLDERS[kind];
    if (folder !== undefined && rest.length === 0 && file !== "" && file !== "..") return join(this.root, folder, file);
    const disk = this.entry.type === "zfspool" ? (name.split("/").at(-1) ?? "") : file;
    const vmid = DISK.exec(disk)?.[2];
    const named = this.entry.type === "zfspool" || (/^\d+$/.test(kind) && rest.length === 0);
    if (vmid !== undefined && named) return join(this.root, "images", vmid, disk);
    throw failed(
      this.entry.type === "zfspool"
        ? `unable to parse zfs volume name '${name}'`
        : `unable to parse directory volume name '${name}'`,
    );
  }

  /** The folder for files of this content. */
  folderOf(content: string): string {
    const folder = FOLDERS[content];
    if (folder === undefined || !this.entry.content.includes(content))
      throw failed(`storage '${this.id}' does not support '${content}' content`);
    return join(this.root, folder);
  }

  list(content: string | undefined): Volume[] {
    const kinds = Object.keys(FOLDERS).filter(
      (kind) => this.entry.content.includes(kind) && (content === undefined || kind === content),
    );
    return kinds.flatMap((kind) => {
      const folder = this.folderOf(kind);
      if (kind === "backup") return backupsIn(folder, this.id).map((one) => ({ ...one, content: kind }));
      return readdirSync(folder)
        .filter((name) => kind !== "vztmpl" || TEMPLATE.test(name))
        .sort()
        .map((name) => describe(this.id, kind, name, join(folder, name)));
    });
  }

  disks(): Disk[] {
    const folder = join(this.root, "images");
    return readdirSync(folder).flatMap((vmid) =>
      readdirSync(join(folder, vmid))
        .filter((name) => DISK.test(name))
        .map((name) => ({
          vmid: Number(vmid),
          volid: this.#volid(Number(vmid), name),
          path: join(folder, vmid, name),
          format: name.endsWith(".raw") ? "raw" : "subvol",
        })),
    );
  }

  /** A free disk name for the container; without a size it is named as a subvolume. */
  newDisk(vmid: number, sizeGib: number): Disk {
    const folder = join(this.root, "images", String(vmid));
    const taken = new Set((existsSync(folder) ? readdirSync(folder) : []).map((name) => DISK.exec(name)?.[3]));
    for (let n = 0; ; n++) {
      if (taken.has(String(n))) continue;
      const subvolume = this.entry.type === "zfspool" || sizeGib === 0;
      const ending = this.entry.type === "zfspool" ? "" : subvolume ? ".subvol" : ".raw";
      const name = `${subvolume ? "subvol" : "vm"}-${vmid}-disk-${n}${ending}`;
      const format = subvolume ? "subvol" : "raw";
      return { vmid, volid: this.#volid(vmid, name), path: join(folder, name), format };
    }
  }

  /** What a disk of this name becomes when its container becomes a template. */
  baseOf(vmid: number, path: string): Disk {
    const name = (path.split("/").at(-1) ?? "").replace(/^(?:vm|subvol)-/, (kind) =>
      kind === "vm-" ? "base-" : "basevol-",
    );
    const format = name.endsWith(".raw") ? "raw" : "subvol";
    return { vmid, volid: this.#volid(vmid, name), path: join(this.root, "images", String(vmid), name), format };
  }

  /** Where a snapshot of the disk is kept. */
  snapshotPath(disk: string, snapshot: string): string {
    const [vmid = "", name = ""] = disk.split("/").slice(-2);
    return join(this.root, "snapshots", vmid, `${name}@${snapshot}`);
  }

  can(feature: Feature, disk: string): boolean {
    const base = /\/base(?:vol)?-/.test(disk);
    if (feature === "snapshot") return this.entry.type !== "dir" && !base;
    if (feature === "clone") return this.entry.type !== "dir" && base;
    return feature === "copy" || !base;
  }

  #volid(vmid: number, name: string): string {
    return this.entry.type === "zfspool" ? `${this.id}:${name}` : `${this.id}:${vmid}/${name}`;
  }
}

/** All storages of a PVE node. */
export class Storages {
  readonly all: readonly Storage[];
  /** For what is on its way in. */
  readonly scratch: string;

  constructor(storageDir: string, entries: readonly StorageEntry[]) {
    this.all = entries.map((entry) => new Storage(entry, storageDir));
    this.scratch = join(storageDir, LOCAL, "tmp");
    mkdirSync(this.scratch, { recursive: true, mode: 0o755 });
  }

  get(id: string): Storage {
    const storage = this.all.find((one) => one.id === id);
    if (storage === undefined) throw failed(`storage '${id}' does not exist`);
    return storage;
  }

  /** The storage a volume such as `local:vztmpl/x.tar.zst` is on, and where on disk it is, or would be. */
  locate(volid: string): { storage: Storage; path: string } {
    const { storage: id, name } = parseVolid(volid);
    const storage = this.get(id);
    return { storage, path: storage.pathOf(name) };
  }
}

export function parseVolid(volid: string): { storage: string; name: string } {
  const match = /^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(\S+)$/.exec(volid);
  if (match === null) throw failed(`unable to parse volume ID '${volid}'`);
  return { storage: match[1] ?? "", name: match[2] ?? "" };
}

function describe(storage: string, content: string, name: string, path: string): Volume {
  const { size, ctimeMs } = statSync(path);
  const compressed = /\.tar\.(gz|xz|zst|bz2)$/.exec(name)?.[1];
  const format = content === "iso" ? "iso" : compressed === undefined ? "tar" : `t${compressed}`;
  return { volid: `${storage}:${content}/${name}`, content, format, size, ctime: Math.floor(ctimeMs / 1_000) };
}
