import type { Kysely } from "kysely";
import type { Key } from "../../kit/key.js";
import type { Millis } from "../../kit/time.js";
import type { SignInRow, Tables } from "./schema.js";

/** Machines that wait for a person to let them in: few, and soon forgotten. */
export class SignInTable {
  readonly #db: Kysely<Tables>;

  constructor(db: Kysely<Tables>) {
    this.#db = db;
  }

  /** The oldest first. */
  all(): Promise<SignInRow[]> {
    return this.#db.selectFrom("sign_in").selectAll().orderBy("created_at_ms").orderBy("machine_key").execute();
  }

  find(machineKey: Key): Promise<SignInRow | undefined> {
    return this.#db.selectFrom("sign_in").selectAll().where("machine_key", "=", machineKey).executeTakeFirst();
  }

  async add(row: SignInRow): Promise<void> {
    await this.#db.insertInto("sign_in").values(row).execute();
  }

  /** By its code: the machine may have begun another one since. */
  async settle(code: string, state: "confirmed" | "refused", userId: string | null): Promise<void> {
    await this.#db.updateTable("sign_in").set({ state, user_id: userId }).where("code", "=", code).execute();
  }

  async remove(machineKey: string): Promise<void> {
    await this.#db.deleteFrom("sign_in").where("machine_key", "=", machineKey).execute();
  }

  async prune(now: Millis): Promise<void> {
    await this.#db.deleteFrom("sign_in").where("expires_at_ms", "<=", now).execute();
  }
}
