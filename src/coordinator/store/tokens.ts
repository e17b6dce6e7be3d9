import type { Kysely, Selectable } from "kysely";
import * as z from "zod";
import type { Millis } from "../../kit/time.js";
import { parseWith } from "../../wire/schema.js";
import type { StoredToken } from "../apitoken.js";
import { jsonWords } from "./devices.js";
import type { Tables, TokenRow } from "./schema.js";

/** The API tokens, as the store keeps them: of each the hash of its secret. */
export class TokenTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<StoredToken[]> {
    const rows = await this.#db.selectFrom("api_token").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(tokenFrom);
  }

  async find(id: string): Promise<StoredToken | undefined> {
    const row = await this.#db.selectFrom("api_token").selectAll().where("id", "=", id).executeTakeFirst();
    return row === undefined ? undefined : tokenFrom(row);
  }

  async add(token: StoredToken): Promise<void> {
    await this.#db
      .insertInto("api_token")
      .values({
        id: token.id,
        secret_hash: token.secretHash,
        name: token.name,
        user_id: token.userId ?? null,
        scopes: JSON.stringify(token.scopes),
        created_at_ms: token.createdAtMs,
        expires_at_ms: token.expiresAtMs ?? null,
        revoked_at_ms: null,
        used_at_ms: null,
      })
      .execute();
  }

  async used(id: string, at: Millis): Promise<void> {
    await this.#db.updateTable("api_token").set({ used_at_ms: at }).where("id", "=", id).execute();
  }

  /** The first moment stands. */
  async revoke(id: string, at: Millis): Promise<void> {
    await this.#db
      .updateTable("api_token")
      .set({ revoked_at_ms: at })
      .where("id", "=", id)
      .where("revoked_at_ms", "is", null)
      .execute();
  }

  async forget(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#db.deleteFrom("api_token").where("id", "in", ids).execute();
  }
}

const scopes = z.object({ scopes: jsonWords });

function tokenFrom(row: Selectable<TokenRow>): StoredToken {
  return {
    id: row.id,
    secretHash: row.secret_hash,
    name: row.name,
    ...(row.user_id === null ? {} : { userId: row.user_id }),
    scopes: parseWith(scopes, row, `API token ${row.id} in the store`, "store-unusable").scopes,
    createdAtMs: row.created_at_ms,
    ...(row.expires_at_ms === null ? {} : { expiresAtMs: row.expires_at_ms }),
    ...(row.revoked_at_ms === null ? {} : { revokedAtMs: row.revoked_at_ms }),
    ...(row.used_at_ms === null ? {} : { usedAtMs: row.used_at_ms }),
  };
}
