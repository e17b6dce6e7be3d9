import * as z from "zod";
import { type Ip, tryIp } from "../kit/ip.js";
import type { Guest, Interface, Resources, Snapshot, Volume } from "./guests.js";
import { flag, list, number, reader, text, words } from "./reader.js";

/** What Proxmox answers about containers, their snapshots and backups, and where in a cluster they are. */
export const volumesReply = reader(
  "the storage's content",
  list(
    z
      .object({ volid: z.string(), size: number, ctime: number, notes: z.string().nullish(), protected: flag })
      .transform(
        (volume): Volume => ({
          volid: volume.volid,
          sizeBytes: volume.size ?? 0,
          createdAtSeconds: volume.ctime ?? 0,
          ...(volume.notes ? { notes: volume.notes } : {}),
          ...(volume.protected ? { protected: true } : {}),
        }),
      ),
  ),
);

const guest = z
  .object({
    vmid: number,
    name: text,
    node: text,
    type: text,
    status: text,
    tags: words(/[;, ]/),
    template: flag,
    lock: text,
  })
  .transform(({ vmid, type, lock, ...rest }): Guest[] =>
    vmid !== undefined && (type === "lxc" || type === "qemu")
      ? [{ vmid, type, ...rest, ...(lock === "" ? {} : { lock }) }]
      : [],
  );

export const guestsReply = reader(
  "guests",
  list(guest).transform((guests) => guests.flat()),
);

/** One list of everything, told apart by `type`. */
export const resourcesReply = reader(
  "the cluster's resources",
  list(z.looseObject({ type: text })).transform((rows): Resources => {
    const of = (type: string) => rows.filter((row) => row.type === type);
    return {
      nodes: of("node").map((row) => clusterNode.parse(row)),
      guests: [...of("lxc"), ...of("qemu")].flatMap((row) => guest.parse(row)),
      storages: of("storage").map((row) => clusterStorage.parse(row)),
    };
  }),
);

const clusterNode = z
  .object({ node: z.string(), status: text })
  .transform(({ node, status }) => ({ name: node, online: status === "online" }));

const clusterStorage = z
  .object({
    storage: z.string(),
    node: text,
    plugintype: text,
    content: words(/,/),
    status: text,
    disk: number,
    maxdisk: number,
  })
  .transform((row) => ({
    id: row.storage,
    node: row.node,
    type: row.plugintype,
    content: row.content,
    available: row.status === "available",
    usedBytes: row.disk ?? 0,
    totalBytes: row.maxdisk ?? 0,
  }));

export const statusReply = reader(
  "the container's status",
  z.object({ status: z.enum(["running", "stopped"]) }).transform(({ status }) => status),
);

export const interfacesReply = reader(
  "the container's interfaces",
  list(
    z
      .object({
        name: z.string(),
        "hardware-address": text,
        hwaddr: text,
        "ip-addresses": list(z.object({ "ip-address": text })),
        inet: text,
        inet6: text,
      })
      .transform((one): Interface => {
        // Proxmox before 8.4 tells only one address of each family.
        const old = [one.inet, one.inet6].map((cidr) => cidr.replace(/\/.*$/, ""));
        const all = one["ip-addresses"].map((address) => address["ip-address"]);
        return {
          name: one.name,
          mac: (one["hardware-address"] || one.hwaddr).toUpperCase(),
          addresses: (all.length > 0 ? all : old).map(tryIp).filter((ip): ip is Ip => ip !== undefined),
        };
      }),
  ),
);

export const featureReply = reader(
  "snapshots",
  z.object({ hasFeature: flag }).transform(({ hasFeature }) => hasFeature),
);

export const snapshotsReply = reader(
  "snapshots",
  list(
    z
      .object({
        name: z.string(),
        description: text.transform((value) => value.replace(/\n$/, "")),
        snaptime: number,
        parent: text,
      })
      .transform(
        ({ name, description, snaptime, parent }): Snapshot => ({
          name,
          description,
          ...(snaptime === undefined ? {} : { takenAtSeconds: snaptime }),
          ...(parent === "" ? {} : { parent }),
        }),
      ),
  ).transform((snapshots) => snapshots.filter(({ name }) => name !== "current")),
);
