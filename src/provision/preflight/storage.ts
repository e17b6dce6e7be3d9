import type { Storage } from "../../pve/guests.js";
import { type Finding, fine, gib, listOf, onHost, stops, warns } from "./finding.js";

export type Content = "rootdir" | "vztmpl";

/** The first storage with room, or else the first that may hold such content at all. */
export function defaultStorage(storages: readonly Storage[], content: Content, bytes: number): string | undefined {
  const fit = storages.filter((storage) => storage.active && storage.content.includes(content));
  return (fit.find(({ availBytes }) => availBytes >= bytes) ?? fit[0])?.id;
}

const WORDS = {
  rootdir: { name: "container storage", holds: "containers", flag: "--storage" },
  vztmpl: { name: "template storage", holds: "templates", flag: "--template-storage" },
} as const;

export type StorageWish = {
  readonly id: string | undefined;
  readonly content: Content;
  readonly bytes: number;
  readonly node: string;
  readonly hostName: string;
};

/** There, active, of the right content, with room. */
export function storageFinding(storages: readonly Storage[], wish: StorageWish): Finding {
  const { id, content, bytes, node, hostName } = wish;
  const { name, holds, flag } = WORDS[content];
  const fit = storages.filter((one) => one.active && one.content.includes(content)).map((one) => one.id);
  const storage = storages.find((one) => one.id === id);
  const widen = `pvesm set ${storage?.id ?? "STORAGE"} --content ${[...(storage?.content ?? ["…"]), content].join(",")}`;
  const advice = fit[0] === undefined ? onHost(widen) : `exitnode create --host ${hostName} ${flag} ${fit[0]}`;
  if (storage === undefined)
    return stops(
      name,
      "storage-unknown",
      `there is no storage ${id === undefined ? `for ${holds}` : `"${id}"`} on ${node}; for ${holds} there is: ${listOf(fit)}`,
      { advice },
    );
  if (!storage.content.includes(content))
    return stops(
      name,
      "storage-content-refused",
      `storage "${storage.id}" does not hold ${holds}; these do: ${listOf(fit)}`,
      { advice: fit[0] === undefined ? advice : `${advice}\nor ${onHost(widen)}` },
    );
  if (!storage.active)
    return stops(name, "storage-inactive", `storage "${storage.id}" is not active on ${node}`, { advice });
  if (storage.availBytes < bytes)
    return stops(
      name,
      "storage-full",
      `storage "${storage.id}" has ${gib(storage.availBytes)} free, ${gib(bytes)} are needed`,
      { advice: "free some space there, or choose another storage or a smaller disk: --storage, --disk" },
    );
  return fine(name, `${storage.id} (${storage.type}), ${gib(storage.availBytes)} free`);
}

/** Of these every volume can be snapshot; a directory holds a container's disk as a raw image, which cannot. */
const SNAPSHOTS = new Set(["zfspool", "lvmthin", "btrfs", "rbd"]);

/** An exit node's archive has some 150 MB; a storage with less room than this is not asked to keep one. */
const BACKUP_BYTES_MIN = 1024 ** 3;

/** How an upgrade keeps the state of before, where that is: a snapshot, else a backup, else a copy beside it. */
export function saveWith(
  storages: readonly Storage[],
  canSnapshot: boolean,
): { readonly how: "snapshot" | "backup" | "copy"; readonly backupStorage?: string } {
  if (canSnapshot) return { how: "snapshot" };
  const [roomiest] = storages
    .filter(({ active, content, availBytes }) => active && content.includes("backup") && availBytes >= BACKUP_BYTES_MIN)
    .sort((left, right) => right.availBytes - left.availBytes);
  return roomiest === undefined ? { how: "copy" } : { how: "backup", backupStorage: roomiest.id };
}

/** Before there is a container, its storage's kind tells; afterwards the host is asked (GET …/feature). */
export const takesSnapshots = (storages: readonly Storage[], id: string | undefined): boolean =>
  SNAPSHOTS.has(storages.find((one) => one.id === id)?.type ?? "");

export function snapshotFinding(storages: readonly Storage[], id: string | undefined): Finding[] {
  const storage = storages.find((one) => one.id === id);
  if (storage === undefined) return [];
  const name = "snapshots";
  const { how, backupStorage } = saveWith(storages, takesSnapshots(storages, id));
  if (how === "snapshot") return [fine(name, `${storage.id} (${storage.type}) takes them`)];
  const cannot = `${storage.id} (${storage.type}) takes none`;
  if (how === "backup") return [fine(name, `${cannot}; an upgrade makes a backup on ${backupStorage} instead`)];
  return [
    warns(name, `${cannot}, and no storage holds backups`, {
      why: "an upgrade stops the container then, and makes a whole copy of it",
      advice: onHost("pvesm set local --content iso,vztmpl,backup"),
    }),
  ];
}

/** An upload is collected in /var/tmp of the PVE node, and copied to the storage from there. */
export function uploadFinding(rootFreeBytes: number | undefined, sizeBytes: number): Finding[] {
  if (rootFreeBytes === undefined || rootFreeBytes >= sizeBytes) return [];
  return [
    stops(
      "upload",
      "upload-room-missing",
      `the PVE node has ${gib(rootFreeBytes)} free on /, and an upload of ${gib(sizeBytes)} goes through /var/tmp there`,
      { advice: onHost("apt clean && journalctl --vacuum-size=100M") },
    ),
  ];
}
