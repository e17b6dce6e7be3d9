import * as z from "zod";
import type { Acl, Bridge, ContainerConfig, Permissions, Storage } from "./guests.js";
import { flag, list, needed, number, reader, text, words } from "./reader.js";
import { parseUpid, type Upid } from "./upid.js";

/** What Proxmox answers about hosts, storages, configurations, tasks and accounts, checked and put into our words. */
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
  z
    .object({ kversion: text, pveversion: text, rootfs: z.object({ avail: number }).nullish() })
    .transform(({ kversion, pveversion, rootfs }) => ({
      kernel: /^Linux (\S+)/.exec(kversion)?.[1] ?? kversion,
      pveVersion: pveversion,
      ...(rootfs?.avail === undefined ? {} : { rootFreeBytes: rootfs.avail }),
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
      .object({
        iface: z.string(),
        type: text,
        active: flag,
        cidr: text,
        gateway: text,
        method: text,
        bridge_vlan_aware: flag,
      })
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
        ...(network.method === "dhcp" ? { byDhcp: true } : {}),
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

export const textReply = reader("a text", z.string());

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
      ...(Array.isArray(raw.lxc) && raw.lxc.length > 0 ? { lxc: lxcLines.parse(raw.lxc) } : {}),
    };
  }),
);
/** Each is a pair of key and value. */
const lxcLines = z.array(z.array(text).transform((pair) => pair.join(": ")));
/** What a container has when its config does not say. */
const MEMORY_DEFAULT_MIB = 512;

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
