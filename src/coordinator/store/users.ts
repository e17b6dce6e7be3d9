import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import { memberRole } from "../../wire/identity.js";
import { parseWith } from "../../wire/schema.js";
import type { User } from "../identity/user.js";
import type { Tables, UserRow } from "./schema.js";

/** The people, as the store keeps them. */
export class UserTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async all(): Promise<User[]> {
    const rows = await this.#db.selectFrom("member").selectAll().orderBy("created_at_ms").orderBy("id").execute();
    return rows.map(userFrom);
  }

  async add(user: User): Promise<void> {
    await this.#db.insertInto("member").values(rowFrom(user)).execute();
  }

  async update(user: User): Promise<void> {
    await this.#db.updateTable("member").set(rowFrom(user)).where("id", "=", user.id).execute();
  }

  async seen(id: string, at: Millis): Promise<void> {
    await this.#db.updateTable("member").set({ last_seen_at_ms: at }).where("id", "=", id).execute();
  }
}

const rowFrom = (user: User): UserRow => ({
  id: user.id,
  login: user.login,
  display_name: user.displayName,
  role: user.role,
  issuer: user.issuer ?? null,
  subject: user.subject ?? null,
  created_at_ms: user.createdAtMs,
  last_seen_at_ms: user.lastSeenAtMs ?? null,
  disabled_at_ms: user.disabledAtMs ?? null,
});

const userFrom = (row: UserRow): User => ({
  id: row.id,
  login: row.login,
  displayName: row.display_name,
  role: parseWith(memberRole, row.role, `user ${row.id} in the store`, "store-unusable"),
  ...(row.issuer === null ? {} : { issuer: row.issuer }),
  ...(row.subject === null ? {} : { subject: row.subject }),
  createdAtMs: row.created_at_ms,
  ...(row.last_seen_at_ms === null ? {} : { lastSeenAtMs: row.last_seen_at_ms }),
  ...(row.disabled_at_ms === null ? {} : { disabledAtMs: row.disabled_at_ms }),
});
