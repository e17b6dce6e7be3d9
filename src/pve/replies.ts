import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { type Ip, tryIp } from "../kit/ip.js";
import type { Acl, Bridge, ContainerConfig, Guest, Interface, Permissions, Storage, Volume } from "./guests.js";
import { parseUpid, type Upid } from "./upid.js";

/**
 * What Proxmox answers, checked and put into our words. Its Perl writes numbers as strings now and then, leaves
 * fields out, and writes null for "nothing", also where a list is expected: all of that is taken.
 */
const number = z
  .union([
    z.number(),
    z
      .string()
      .regex(/^-?\d+(?:\.\d+)?$/)
      .transform(Number),
  ])
  .nullish()
  .transform((value) => value ?? undefined);
const needed = z.union([
  z.number(),
  z
    .string()
    .regex(/^-?\d+$/)
    .transform(Number),
]);
const flag = z
  .union([z.boolean(), z.number(), z.string()])
  .nullish()
  .transform((value) => value === true || value === 1 || value === "1");
const text = z
  .union([z.string(), z.number().transform(String)])
  .nullish()
  .transform((value) => value ?? "");
const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform((items) => items ?? []);
const words = (separator: RegExp) => text.transform((value) => value.split(separator).filter((word) => word !== ""));

function reader<T extends z.ZodType>(what: string, schema: T): (reply: unknown) => z.output<T> {
  return (reply) => {
    const parsed = schema.safeParse(reply);
    if (parsed.success) return parsed.data;
    const issue = parsed.error.issues[0];
    const where = issue?.path.map(String).join(".") || "the whole";
    throw new Failure(
      "pve-reply-unexpected",
      `the host's answer about ${what} is not understood: ${where}: ${issue?.message}`,
    );
  };
}

export const ticketReply = reader(
  "the login",
  z.object({
    data: z
      .object({ ticket: z.string().min(1), CSRFPreventionToken: text, NeedTFA: flag })
      .transform((data) => ({ ticket: data.ticket, csrf: data.CSRFPreventionToken, needsSecondFactor: data.NeedTFA })),
  }),
);

export const upidReply = (reply: unknown): Upid => parseUpid(reader("a task", z.string())(reply));

export const versionReply = reader("its version", z.object({ version: z.string(), release: text }));

export const nodesReply = reader(
  "its PVE nodes",
  list(
    z.object({ node: z.string(), status: text, ssl_fingerprint: z.string().nullish() }).transform((node) => ({
      name: node.node,
      online: node.status === "online",
      fingerprint: node.ssl_fingerprint ?? undefined,
    })),
  ),
);

export const nodeStatusReply = reader(
  "the PVE node",
  z.object({ kversion: text, pveversion: text }).transform((status) => ({
    kernel: /^Linux (\S+)/.exec(status.kversion)?.[1] ?? status.kversion,
    pveVersion: status.pveversion,
  })),
);

export const storagesReply = reader(
  "storages",
  list(
    z
      .object({
        storage: z.string(),
        type: text,
        content: words(/,/),
        active: flag,
        shared: flag,
        avail: number,
        total: number,
      })
      .transform(
        (storage): Storage => ({
          id: storage.storage,
          type: storage.type,
          content: storage.content,
          active: storage.active,
          shared: storage.shared,
          availBytes: storage.avail ?? 0,
          totalBytes: storage.total ?? 0,
        }),
      ),
  ),
);

export const bridgesReply = reader(
  "networks",
  list(
    z
      .object({ iface: z.string(), type: text, active: flag, cidr: text, gateway: text, bridge_vlan_aware: flag })
      .transform((network) => network),
  ).transform((networks): Bridge[] =>
    networks
      .filter(({ type }) => type === "bridge" || type === "OVSBridge")
      .map((network) => ({
        name: network.iface,
        active: network.active,
        cidr: network.cidr || undefined,
        gateway: network.gateway || undefined,
        vlanAware: network.bridge_vlan_aware,
      })),
  ),
);

/** A privilege's value is its propagate flag: 0 still means "held, here only". */
export const permissionsReply = reader(
  "permissions",
  z
    .record(z.string(), z.record(z.string(), flag))
    .nullish()
    .transform(
      (paths): Permissions =>
        new Map(
          Object.entries(paths ?? {}).map(([path, privs]) => [
            path,
            new Map(Object.entries(privs).map(([priv, propagates]) => [priv, { propagates }])),
          ]),
        ),
    ),
);

export const volumesReply = reader(
  "the storage's content",
  list(
    z
      .object({ volid: z.string(), size: number, ctime: number })
      .transform(
        (volume): Volume => ({ volid: volume.volid, sizeBytes: volume.size ?? 0, createdAtSeconds: volume.ctime ?? 0 }),
      ),
  ),
);

export const poolsReply = reader("pools", list(z.object({ poolid: z.string() }).transform(({ poolid }) => poolid)));

export const packagesReply = reader(
  "packages",
  list(z.object({ Package: text, OldVersion: text, Version: text, CurrentState: text })).transform(
    (packages): ReadonlyMap<string, string> =>
      new Map(
        packages
          .filter((one) => one.Package !== "" && one.CurrentState !== "NotInstalled")
          .map((one) => [one.Package, one.OldVersion || one.Version]),
      ),
  ),
);

export const vmidReply = reader("the next free id", needed);

export const guestsReply = reader(
  "guests",
  list(
    z.object({ vmid: number, name: text, node: text, type: text, status: text, tags: words(/[;, ]/), template: flag }),
  ).transform((guests) =>
    guests.flatMap(({ vmid, type, ...rest }): Guest[] =>
      vmid !== undefined && (type === "lxc" || type === "qemu") ? [{ vmid, type, ...rest }] : [],
    ),
  ),
);

export const configReply = reader(
  "the container's config",
  z.record(z.string(), z.unknown()).transform((raw): ContainerConfig => {
    const options = Object.fromEntries(
      Object.entries(raw).flatMap(([name, value]) =>
        typeof value === "string" || typeof value === "number" ? [[name, String(value)]] : [],
      ),
    );
    const on = (name: string): boolean => options[name] === "1";
    return {
      hostname: options.hostname ?? "",
      // Proxmox hands a description back with a line end of its own.
      description: (options.description ?? "").replace(/\n$/, ""),
      tags: (options.tags ?? "").split(/[;, ]/).filter((tag) => tag !== ""),
      cores: options.cores === undefined ? undefined : Number(options.cores),
      memoryMib: Number(options.memory ?? MEMORY_DEFAULT_MIB),
      swapMib: Number(options.swap ?? MEMORY_DEFAULT_MIB),
      unprivileged: on("unprivileged"),
      onboot: on("onboot"),
      protection: on("protection"),
      lock: options.lock,
      digest: options.digest ?? "",
      options,
    };
  }),
);
/** What a container has when its config does not say. */
const MEMORY_DEFAULT_MIB = 512;

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
  list(z.object({ name: z.string(), description: text.transform((value) => value.replace(/\n$/, "")) })).transform(
    (snapshots) => snapshots.filter(({ name }) => name !== "current"),
  ),
);

export const tasksReply = reader(
  "tasks",
  list(z.object({ upid: z.string() }).transform(({ upid }) => parseUpid(upid))),
);
export const taskStatusReply = reader("a task", z.object({ status: text, exitstatus: text }));
export const taskLogReply = reader("a task's log", list(z.object({ n: needed, t: text })));

export const rolesReply = reader(
  "roles",
  list(z.object({ roleid: z.string(), privs: words(/[, ]/) })).transform(
    (roles): ReadonlyMap<string, readonly string[]> => new Map(roles.map(({ roleid, privs }) => [roleid, privs])),
  ),
);
export const usersReply = reader("users", list(z.object({ userid: z.string() }).transform(({ userid }) => userid)));
export const tokensReply = reader(
  "tokens",
  list(
    z.object({ tokenid: z.string(), privsep: flag }).transform(({ tokenid, privsep }) => ({ id: tokenid, privsep })),
  ),
);
export const tokenMadeReply = reader(
  "the new token",
  z
    .object({ "full-tokenid": z.string(), value: z.string().min(1) })
    .transform((token) => ({ tokenId: token["full-tokenid"], secret: token.value })),
);
export const aclsReply = reader(
  "access rules",
  list(
    z
      .object({
        path: z.string(),
        roleid: z.string(),
        type: z.enum(["user", "token", "group"]),
        ugid: z.string(),
        propagate: flag,
      })
      .transform(
        (acl): Acl => ({
          path: acl.path,
          role: acl.roleid,
          kind: acl.type,
          holder: acl.ugid,
          propagate: acl.propagate,
        }),
      ),
  ),
);
