import type { Kysely, Selectable } from "kysely";
import * as z from "zod";
import { tryJson } from "../../kit/json.js";
import type { Millis } from "../../kit/time.js";
import { deviceReport } from "../../wire/control.js";
import { cidr, ip, key, parseWith, role } from "../../wire/schema.js";
import type { Device } from "../device.js";
import type { DeviceRow, Tables } from "./schema.js";

/** The devices, as the store keeps them. */
export class DeviceTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<Device[]> {
    const rows = await this.#db.selectFrom("device").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(deviceFrom);
  }

  async find(id: string): Promise<Device | undefined> {
    const row = await this.#db.selectFrom("device").selectAll().where("id", "=", id).executeTakeFirst();
    return row === undefined ? undefined : deviceFrom(row);
  }

  /** Those of them that are there. */
  async some(ids: readonly string[]): Promise<Device[]> {
    if (ids.length === 0) return [];
    const rows = await this.#db.selectFrom("device").selectAll().where("id", "in", ids).execute();
    return rows.map(deviceFrom);
  }

  async add(device: Device, joinKeyId: string | null): Promise<void> {
    await this.#db
      .insertInto("device")
      .values({ ...rowFrom(device), join_key_id: joinKeyId })
      .execute();
  }

  /** Writes the columns in which the two differ, and no others: a report must not undo a revocation. */
  async update(before: Device, after: Device): Promise<void> {
    const changed = differing(rowFrom(before), rowFrom(after));
    if (Object.keys(changed).length > 0)
      await this.#db.updateTable("device").set(changed).where("id", "=", before.id).execute();
  }

  /** Of all the columns this alone: many devices leave at once when a coordinator stops. */
  async seen(id: string, at: Millis): Promise<void> {
    await this.#db.updateTable("device").set({ last_seen_at_ms: at }).where("id", "=", id).execute();
  }

  async remove(id: string): Promise<void> {
    await this.#db.deleteFrom("device").where("id", "=", id).execute();
  }
}

function rowFrom(device: Device): Omit<DeviceRow, "join_key_id"> {
  return {
    id: device.id,
    name: device.name,
    wanted_name: device.wantedName,
    role: device.role,
    machine_key: device.machineKey,
    public_key: device.publicKey,
    ipv4: device.ipv4,
    ipv6: device.ipv6,
    report: JSON.stringify(device.report),
    agent_version: device.agentVersion,
    created_at_ms: device.createdAtMs,
    last_seen_at_ms: device.lastSeenAtMs ?? null,
    revoked_at_ms: device.revokedAtMs ?? null,
    user_id: device.userId ?? null,
    tags: JSON.stringify(device.tags),
    ephemeral: device.ephemeral ? 1 : 0,
    approved_at_ms: device.approvedAtMs ?? null,
    key_expires_at_ms: device.keyExpiresAtMs ?? null,
    approved_routes: JSON.stringify(device.approvedRoutes),
    lock_key: device.lock?.key ?? null,
    lock_statement: device.lock?.statement ?? null,
    lock_signature: device.lock?.signature ?? null,
    rotate_at_ms: device.rotateAtMs ?? null,
    app_exit_id: device.app?.exitId ?? null,
    app_exit_key: device.app?.exitKey ?? null,
    app_endpoint: device.app?.endpoint ?? null,
  };
}

/** Whether two values of a device say the same, but for when it was last seen. */
export function sameDevice(one: Device, other: Device): boolean {
  const { last_seen_at_ms: _, ...rest } = differing(rowFrom(one), rowFrom(other));
  return Object.keys(rest).length === 0;
}

const differing = <T extends object>(before: T, after: T): Partial<T> =>
  Object.fromEntries(
    Object.entries(after).filter(([column, value]) => Reflect.get(before, column) !== value),
  ) as Partial<T>;

/** The column of a list of words. */
export const jsonWords = z.string().transform(tryJson).pipe(z.array(z.string()));

// The file is parsed like anything foreign: somebody may have edited it.
const deviceRow = z.object({
  id: z.string(),
  name: z.string(),
  wanted_name: z.string(),
  role,
  machine_key: key,
  public_key: key,
  ipv4: ip,
  ipv6: ip,
  report: z.string().transform(tryJson).pipe(deviceReport),
  agent_version: z.string(),
  created_at_ms: z.number(),
  last_seen_at_ms: z.number().nullable(),
  revoked_at_ms: z.number().nullable(),
  user_id: z.string().nullable(),
  tags: jsonWords,
  ephemeral: z.number(),
  approved_at_ms: z.number().nullable(),
  key_expires_at_ms: z.number().nullable(),
  approved_routes: z.string().transform(tryJson).pipe(z.array(cidr)),
  lock_key: key.nullable(),
  lock_statement: z.string().nullable(),
  lock_signature: z.string().nullable(),
  rotate_at_ms: z.number().nullable(),
  app_exit_id: z.string().nullable(),
  app_exit_key: key.nullable(),
  app_endpoint: z.string().nullable(),
});

function deviceFrom(raw: Selectable<DeviceRow>): Device {
  const row = parseWith(deviceRow, raw, `device ${raw.id} in the store`, "store-unusable");
  return {
    id: row.id,
    name: row.name,
    wantedName: row.wanted_name,
    role: row.role,
    machineKey: row.machine_key,
    publicKey: row.public_key,
    ipv4: row.ipv4,
    ipv6: row.ipv6,
    report: row.report,
    agentVersion: row.agent_version,
    createdAtMs: row.created_at_ms,
    ...(row.last_seen_at_ms === null ? {} : { lastSeenAtMs: row.last_seen_at_ms }),
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
    ...(row.user_id === null ? {} : { userId: row.user_id }),
    tags: row.tags,
    ephemeral: row.ephemeral === 1,
    ...(row.approved_at_ms === null ? {} : { approvedAtMs: row.approved_at_ms }),
    ...(row.key_expires_at_ms === null ? {} : { keyExpiresAtMs: row.key_expires_at_ms }),
    approvedRoutes: row.approved_routes,
    ...lockFrom(row),
    ...(row.rotate_at_ms === null ? {} : { rotateAtMs: row.rotate_at_ms }),
    ...appFrom(row),
  };
}

function lockFrom(row: z.infer<typeof deviceRow>): Pick<Device, "lock"> {
  const { lock_key: own, lock_statement: statement, lock_signature: signature } = row;
  if (own === null || statement === null) return {};
  return { lock: { key: own, statement, ...(signature === null ? {} : { signature }) } };
}

function appFrom(row: z.infer<typeof deviceRow>): Pick<Device, "app"> {
  const { app_exit_id: exitId, app_exit_key: exitKey, app_endpoint: endpoint } = row;
  return exitId === null || exitKey === null || endpoint === null ? {} : { app: { exitId, exitKey, endpoint } };
}
