import { Kysely, type Selectable, type SqliteDatabase, SqliteDialect, sql } from "kysely";
import * as z from "zod";
import { Failure } from "../kit/failure.js";
import type { Cidr } from "../kit/ip.js";
import { tryJson } from "../kit/json.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { deviceReport } from "../wire/control.js";
import { type RemoteRelay, remoteRelay } from "../wire/coordinatorconfig.js";
import { cidr, ip, key, parseWith, role } from "../wire/schema.js";
import type { Device } from "./device.js";
import type { StoredKey } from "./joinkeys.js";
import { type DeviceRow, type JoinKeyRow, MIGRATIONS, type Migration, type Tables } from "./schema.js";

/** The setting that holds them, as JSON. */
const RELAYS = "relays";

/** What the coordinator remembers. It speaks SQL and decides nothing. */
export class Store {
  readonly #db: Kysely<Tables>;
  /** Grows with every opening: numbers made from it grow across restarts, whatever the clock does. */
  readonly epoch: number;
  /** The network's IPv6 prefix, made when the store was. */
  readonly ula: Cidr;

  private constructor(db: Kysely<Tables>, epoch: number, ula: Cidr) {
    this.#db = db;
    this.epoch = epoch;
    this.ula = ula;
  }

  /** Brings the tables up to date; `ula` is taken when the store is new. */
  static async open(
    database: SqliteDatabase,
    ula: Cidr,
    migrations: readonly Migration[] = MIGRATIONS,
  ): Promise<Store> {
    const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database }) });
    try {
      await migrate(db, migrations);
      return await db.transaction().execute(async (within) => {
        await within
          .insertInto("setting")
          .values({ name: "ula", value: ula })
          .onConflict((conflict) => conflict.doNothing())
          .execute();
        const settings = new Map(
          (await within.selectFrom("setting").selectAll().execute()).map((row) => [row.name, row.value]),
        );
        const epoch = Number(settings.get("epoch") ?? 0) + 1;
        await within
          .insertInto("setting")
          .values({ name: "epoch", value: String(epoch) })
          .onConflict((conflict) => conflict.column("name").doUpdateSet({ value: String(epoch) }))
          .execute();
        return new Store(db, epoch, parseWith(cidr, settings.get("ula"), "the store's IPv6 prefix", "store-unusable"));
      });
    } catch (error) {
      await db.destroy();
      throw error;
    }
  }

  async devices(): Promise<Device[]> {
    const rows = await this.#db.selectFrom("device").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(deviceFrom);
  }

  /** Adds a device and consumes its join key, both or neither. */
  async join(device: Device, by: StoredKey, now: Millis): Promise<void> {
    await this.#db.transaction().execute(async (within) => {
      await within
        .updateTable("join_key")
        .set({ used_at_ms: now, used_by: device.machineKey })
        .where("id", "=", by.id)
        .execute();
      await within
        .insertInto("device")
        .values({ ...rowFrom(device), join_key_id: by.id })
        .execute();
    });
  }

  async update(device: Device): Promise<void> {
    await this.#db.updateTable("device").set(rowFrom(device)).where("id", "=", device.id).execute();
  }

  async remove(deviceId: string): Promise<void> {
    await this.#db.deleteFrom("device").where("id", "=", deviceId).execute();
  }

  async keys(): Promise<StoredKey[]> {
    const rows = await this.#db.selectFrom("join_key").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(keyFrom);
  }

  async keyOf(secretHash: string): Promise<StoredKey | undefined> {
    const row = await this.#db
      .selectFrom("join_key")
      .selectAll()
      .where("secret_hash", "=", secretHash)
      .executeTakeFirst();
    return row === undefined ? undefined : keyFrom(row);
  }

  async addKey(added: StoredKey): Promise<void> {
    await this.#db
      .insertInto("join_key")
      .values({
        id: added.id,
        secret_hash: added.secretHash,
        role: added.role,
        name: added.name ?? null,
        reusable: added.reusable ? 1 : 0,
        created_at_ms: added.createdAtMs,
        expires_at_ms: added.expiresAtMs,
        revoked_at_ms: null,
        used_at_ms: null,
        used_by: null,
      })
      .execute();
  }

  /** False when there is no such key. */
  async revokeKey(id: string, now: Millis): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable("join_key")
      .set({ revoked_at_ms: now })
      .where("id", "=", id)
      .executeTakeFirst();
    return numUpdatedRows > 0n;
  }

  async forgetKeys(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#db.deleteFrom("join_key").where("id", "in", ids).execute();
  }

  /** Relays that were added while the coordinator ran. */
  async relays(): Promise<RemoteRelay[]> {
    const row = await this.#db.selectFrom("setting").select("value").where("name", "=", RELAYS).executeTakeFirst();
    if (row === undefined) return [];
    return parseWith(z.array(remoteRelay), tryJson(row.value), "the store's list of relays", "store-unusable");
  }

  async keepRelays(relays: readonly RemoteRelay[]): Promise<void> {
    const value = JSON.stringify(relays);
    await this.#db
      .insertInto("setting")
      .values({ name: RELAYS, value })
      .onConflict((conflict) => conflict.column("name").doUpdateSet({ value }))
      .execute();
  }

  async close(): Promise<void> {
    await this.#db.destroy();
  }
}

async function migrate(db: Kysely<Tables>, migrations: readonly Migration[]): Promise<void> {
  await sql`create table if not exists migration (id text primary key)`.execute(db);
  const ran = await sql<{ id: string }>`select id from migration order by id`.execute(db);
  const known = new Set(migrations.map(({ id }) => id));
  const foreign = ran.rows.find(({ id }) => !known.has(id));
  if (foreign !== undefined)
    throw new Failure("store-newer", `the store was written by a newer version (it has the migration ${foreign.id})`, {
      advice: "run that version again, or restore the backup made before it",
    });
  const done = new Set(ran.rows.map(({ id }) => id));
  for (const { id, up } of migrations) {
    if (done.has(id)) continue;
    await db.transaction().execute(async (within) => {
      for (const statement of up) await sql.raw(statement).execute(within);
      await sql`insert into migration (id) values (${id})`.execute(within);
    });
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
  };
}

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
  };
}

function keyFrom(row: Selectable<JoinKeyRow>): StoredKey {
  return {
    id: row.id,
    secretHash: row.secret_hash,
    role: parseWith(role, row.role, `join key ${row.id} in the store`, "store-unusable"),
    ...(row.name === null ? {} : { name: row.name }),
    reusable: row.reusable === 1,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
    ...(row.used_at_ms === null ? {} : { usedAtMs: row.used_at_ms }),
    ...(row.used_by === null ? {} : { usedBy: row.used_by as Key }),
  };
}
