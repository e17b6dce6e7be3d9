import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { writeWhole } from "./statefile.js";

/** Backups as vzdump names them, `vzdump-lxc-101-2026_11_22-13_11_09.tar.zst`, with `.notes` and `.protected` beside. */
export type Archive = {
  readonly volid: string;
  readonly format: string;
  readonly size: number;
  readonly ctime: number;
  readonly vmid?: number;
  readonly subtype?: string;
  readonly notes?: string;
  readonly protected?: 1;
};

const ARCHIVE = /^vzdump-(lxc|qemu)-(\d+)-(\d{4})_(\d\d)_(\d\d)-(\d\d)_(\d\d)_(\d\d)\.(tar(?:\.(?:gz|lzo|zst))?)$/;

/** Name without ending, for a backup that begins now. */
export function archiveName(vmid: number, now: Date): string {
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = [now.getFullYear(), two(now.getMonth() + 1), two(now.getDate())].join("_");
  const time = [two(now.getHours()), two(now.getMinutes()), two(now.getSeconds())].join("_");
  return `vzdump-lxc-${vmid}-${day}-${time}`;
}

export function backupsIn(folder: string, storage: string): Archive[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const found = ARCHIVE.exec(name);
      if (found === null) return [];
      const [, subtype = "", vmid, year, month, day, hours, minutes, seconds, format = ""] = found;
      const path = join(folder, name);
      const began = new Date(
        Number(year),
        Number(month) - 1,
        Number(day),
        Number(hours),
        Number(minutes),
        Number(seconds),
      );
      const notes = readNotes(path);
      return {
        volid: `${storage}:backup/${name}`,
        format,
        size: statSync(path).size,
        ctime: Math.floor(began.getTime() / 1_000),
        vmid: Number(vmid),
        subtype,
        ...(notes === undefined ? {} : { notes }),
        ...(isProtected(path) ? { protected: 1 as const } : {}),
      };
    });
}

/** The container a volume of this name is a backup of. */
export function backupOwner(volid: string): number | undefined {
  const name = /^[^:]+:backup\/([^/]+)$/.exec(volid)?.[1];
  const vmid = name === undefined ? undefined : ARCHIVE.exec(name)?.[2];
  return vmid === undefined ? undefined : Number(vmid);
}

export const isProtected = (path: string): boolean => existsSync(`${path}.protected`);

export function setProtected(path: string, on: boolean): void {
  if (on) writeWhole(`${path}.protected`, "");
  else rmSync(`${path}.protected`, { force: true });
}

export function readNotes(path: string): string | undefined {
  return existsSync(`${path}.notes`) ? readFileSync(`${path}.notes`, "utf8") : undefined;
}

export function writeNotes(path: string, notes: string): void {
  if (notes === "") rmSync(`${path}.notes`, { force: true });
  else writeWhole(`${path}.notes`, notes);
}

/** With what lies beside it. */
export function removeArchive(path: string): void {
  for (const ending of ["", ".notes", ".protected"]) rmSync(`${path}${ending}`, { force: true });
}
