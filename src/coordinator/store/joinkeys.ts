import type { Kysely } from "kysely";
import type { Key } from "../../kit/key.js";
import type { Millis } from "../../kit/time.js";
import { parseWith, role } from "../../wire/schema.js";
import type { StoredKey } from "../joinkeys.js";
import { jsonWords } from "./devices.js";
import type { JoinKeyRow, Tables } from "./schema.js";

/** The join keys, as the store keeps them. */
export class JoinKeyTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<StoredKey[]> {
    const rows = await this.#db.selectFrom("join_key").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(keyFrom);
  }

  async bySecret(secretHash: string): Promise<StoredKey | undefined> {
    const row = await this.#db
      .selectFrom("join_key")
      .selectAll()
      .where("secret_hash", "=", secretHash)
      .executeTakeFirst();
    return row === undefined ? undefined : keyFrom(row);
  }

  async add(added: StoredKey): Promise<void> {
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
        user_id: added.userId ?? null,
        tags: JSON.stringify(added.tags),
        ephemeral: added.ephemeral ? 1 : 0,
        preapproved: added.preapproved ? 1 : 0,
      })
      .execute();
  }

  async use(id: string, by: Key, now: Millis): Promise<void> {
    await this.#db.updateTable("join_key").set({ used_at_ms: now, used_by: by }).where("id", "=", id).execute();
  }

  /** False when there is no such key. */
  async revoke(id: string, now: Millis): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable("join_key")
      .set({ revoked_at_ms: now })
      .where("id", "=", id)
      .executeTakeFirst();
    return numUpdatedRows > 0n;
  }

  /** What a person who is out may not use to come in again. */
  async revokeOf(userId: string, now: Millis): Promise<void> {
    await this.#db
      .updateTable("join_key")
      .set({ revoked_at_ms: now })
      .where("user_id", "=", userId)
      .where("revoked_at_ms", "is", null)
      .execute();
  }

  async forget(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#db.deleteFrom("join_key").where("id", "in", ids).execute();
  }
}

function keyFrom(row: JoinKeyRow): StoredKey {
  const what = `join key ${row.id} in the store`;
  return {
    id: row.id,
    secretHash: row.secret_hash,
    role: parseWith(role, row.role, what, "store-unusable"),
    ...(row.name === null ? {} : { name: row.name }),
    reusable: row.reusable === 1,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
    ...(row.used_at_ms === null ? {} : { usedAtMs: row.used_at_ms }),
    ...(row.used_by === null ? {} : { usedBy: row.used_by as Key }),
    ...(row.user_id === null ? {} : { userId: row.user_id }),
    tags: parseWith(jsonWords, row.tags, what, "store-unusable"),
    ephemeral: row.ephemeral === 1,
    preapproved: row.preapproved === 1,
  };
}
