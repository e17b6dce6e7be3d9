import type { Kysely } from "kysely";
import type { Millis } from "../../kit/time.js";
import type { PolicyRow, Tables } from "./schema.js";

/** A policy as it was saved; versions count from 1. */
export type StoredPolicy = {
  readonly version: number;
  readonly text: string;
  readonly actor: string;
  readonly createdAtMs: Millis;
};

/** Versions that are kept; the oldest goes when there are more. */
export const POLICY_VERSIONS_KEPT = 200;

/** Every policy there was: added to, and never changed. */
export class PolicyTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  async latest(): Promise<StoredPolicy | undefined> {
    return (await this.list(1))[0];
  }

  async find(version: number): Promise<StoredPolicy | undefined> {
    const row = await this.#db.selectFrom("policy").selectAll().where("version", "=", version).executeTakeFirst();
    return row === undefined ? undefined : policyFrom(row);
  }

  /** The newest first. */
  async list(limit: number = POLICY_VERSIONS_KEPT): Promise<StoredPolicy[]> {
    const rows = await this.#db.selectFrom("policy").selectAll().orderBy("version", "desc").limit(limit).execute();
    return rows.map(policyFrom);
  }

  async add({ version, text, actor, createdAtMs }: StoredPolicy): Promise<void> {
    await this.#db.insertInto("policy").values({ version, text, actor, created_at_ms: createdAtMs }).execute();
    await this.#db
      .deleteFrom("policy")
      .where("version", "<=", version - POLICY_VERSIONS_KEPT)
      .execute();
  }
}

const policyFrom = ({ version, text, actor, created_at_ms }: PolicyRow): StoredPolicy => ({
  version,
  text,
  actor,
  createdAtMs: created_at_ms,
});
