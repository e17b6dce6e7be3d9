import { existsSync, mkdirSync, readdirSync, statfsSync, statSync } from "node:fs";
import { join } from "node:path";
import { failed } from "./refusal.js";

/** The one storage: `local`, a directory, laid out as Proxmox lays out /var/lib/vz. */
export const LOCAL = "local";
export const LOCAL_CONTENT = ["iso", "vztmpl", "backup", "rootdir", "images", "snippets"] as const;

const FOLDERS: Readonly<Record<string, string>> = { vztmpl: "template/cache", iso: "template/iso", backup: "dump" };
export const TEMPLATE = /^[^/]+\.tar(?:\.(?:gz|xz|zst|bz2))?$/;

export type Volume = {
  readonly volid: string;
  readonly content: string;
  readonly format: string;
  readonly size: number;
  readonly ctime: number;
};

/** Volumes of the local storage, on disk below `<storageDir>/local`. */
export class Storage {
  readonly root: string;

  constructor(storageDir: string) {
    this.root = join(storageDir, LOCAL);
    for (const folder of [...Object.values(FOLDERS), "images", "tmp"])
      mkdirSync(join(this.root, folder), { recursive: true, mode: 0o755 });
  }

  requireKnown(storage: string): void {
    if (storage !== LOCAL) throw failed(`storage '${storage}' does not exist`);
  }

  /** Bytes of the file system below. */
  space(): { total: number; used: number; avail: number } {
    const { bsize, blocks, bfree, bavail } = statfsSync(this.root);
    return { total: blocks * bsize, used: (blocks - bfree) * bsize, avail: bavail * bsize };
  }

  /** Where a volume such as `local:vztmpl/x.tar.zst` is, whether it exists or not. */
  pathOf(volid: string): string {
    const { storage, name } = parseVolid(volid);
    this.requireKnown(storage);
    const [kind = "", file = "", ...rest] = name.split("/");
    const folder = FOLDERS[kind];
    if (folder !== undefined && rest.length === 0 && file !== "" && file !== "..") return join(this.root, folder, file);
    if (/^\d+$/.test(kind) && /^[\w.-]+$/.test(file) && file !== ".." && rest.length === 0)
      return join(this.root, "images", kind, file);
    throw failed(`unable to parse directory volume name '${name}'`);
  }

  /** The folder an upload of this content goes to. */
  folderOf(content: string): string {
    const folder = FOLDERS[content];
    if (folder === undefined || content === "backup")
      throw failed(`storage '${LOCAL}' does not support '${content}' content`);
    return join(this.root, folder);
  }

  list(content: string | undefined): Volume[] {
    const kinds = Object.entries(FOLDERS).filter(([kind]) => content === undefined || kind === content);
    return kinds.flatMap(([kind, folder]) =>
      readdirSync(join(this.root, folder))
        .filter((name) => kind !== "vztmpl" || TEMPLATE.test(name))
        .sort()
        .map((name) => describe(kind, name, join(this.root, folder, name))),
    );
  }

  images(): { vmid: number; volid: string; path: string }[] {
    const folder = join(this.root, "images");
    return readdirSync(folder).flatMap((vmid) =>
      readdirSync(join(folder, vmid)).map((name) => ({
        vmid: Number(vmid),
        volid: `${LOCAL}:${vmid}/${name}`,
        path: join(folder, vmid, name),
      })),
    );
  }

  /** A free disk name for the container: its root directory is named as Proxmox names the image that holds one. */
  newDisk(vmid: number): { volid: string; path: string } {
    for (let n = 0; ; n++) {
      const name = `vm-${vmid}-disk-${n}.raw`;
      const path = join(this.root, "images", String(vmid), name);
      if (!existsSync(path)) return { volid: `${LOCAL}:${vmid}/${name}`, path };
    }
  }
}

export function parseVolid(volid: string): { storage: string; name: string } {
  const match = /^([a-zA-Z][a-zA-Z0-9\-_.]*[a-zA-Z0-9]):(\S+)$/.exec(volid);
  if (match === null) throw failed(`unable to parse volume ID '${volid}'`);
  return { storage: match[1] ?? "", name: match[2] ?? "" };
}

function describe(content: string, name: string, path: string): Volume {
  const { size, ctimeMs } = statSync(path);
  const compressed = /\.tar\.(gz|xz|zst|bz2)$/.exec(name)?.[1];
  const format = content === "iso" ? "iso" : compressed === undefined ? "tar" : `t${compressed}`;
  return { volid: `${LOCAL}:${content}/${name}`, content, format, size, ctime: Math.floor(ctimeMs / 1_000) };
}
