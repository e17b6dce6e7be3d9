import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import Database from "libsql";
import type { AuditRow } from "../../src/coordinator/store/schema.js";
import type { KeyPair } from "../../src/kit/crypto.js";
import { keyOf } from "../../src/kit/key.js";
import { requestUnix } from "../../src/sys/unixhttp.js";
import type { CreatedKey } from "../../src/wire/adminapi.js";
import { AUDIT_ROOT, auditHash } from "../../src/wire/audit.js";
import type { StoreConfig } from "../../src/wire/coordinatorconfig.js";
import { decodeJoinKey } from "../../src/wire/joinkey.js";
import { TestDevice } from "./bench.js";
import { freePort } from "./freeport.js";
import { startPostgres } from "./postgres.js";
import { CoordinatorProcess } from "./process.js";

/**
 * A coordinator is killed at random moments while keys are made, used and revoked, and devices join, are revoked and
 * are removed. What it answered lasts; of what it did not answer everything lasts or nothing.
 */
const LONG = process.env.EXITNODE_LONG_TESTS === "1";
const KILLS = LONG ? 50 : 3;
const CHANGES = LONG ? 10_000 : 240;
const WORKERS = 4;
const CALL_TIMEOUT_MS = 60_000;

type Key = { id: string; secret: string; state: "valid" | "used" | "revoked"; sure: boolean };
type Member = { name: string; machineKey: KeyPair; key: Key; state: "in" | "revoked" | "removed"; sure: boolean };
type Rows = {
  readonly keys: readonly { id: string; revoked_at_ms: number | null; used_by: string | null }[];
  readonly devices: readonly { id: string; name: string; machine_key: string; revoked_at_ms: number | null }[];
  readonly audit: readonly AuditRow[];
};
type Engine = {
  readonly store: StoreConfig;
  /** What the killed coordinator has left behind. */
  rows(folder: string): Promise<Rows>;
  close(): Promise<void>;
};

const QUERIES = {
  keys: "select id, revoked_at_ms, used_by from join_key",
  devices: "select id, name, machine_key, revoked_at_ms from device",
  audit: "select * from audit order by seq",
};

const ENGINES: Readonly<Record<string, () => Promise<Engine>>> = {
  sqlite: async () => ({
    store: { kind: "sqlite" },
    async rows(folder) {
      const database = new Database(join(folder, "coordinator.db"));
      const all = (query: string): unknown[] => database.prepare(query).all([]);
      const rows = { keys: all(QUERIES.keys), devices: all(QUERIES.devices), audit: all(QUERIES.audit) } as Rows;
      database.close();
      return rows;
    },
    close: async () => undefined,
  }),
  async postgres() {
    const postgres = await startPostgres();
    const { host, port, user } = postgres;
    const database = await postgres.database();
    const numbers = (row: object): object =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [
          name,
          /_ms$|^seq$/.test(name) && value !== null ? Number(value) : value,
        ]),
      );
    return {
      store: { kind: "postgres", host, port, user, database, tls: "off" },
      async rows() {
        // A commit that was under way ends before we look.
        await postgres.disconnect(database);
        const all = async (query: string): Promise<object[]> =>
          ((await postgres.run(database, query)) as object[]).map(numbers);
        return {
          keys: await all(QUERIES.keys),
          devices: await all(QUERIES.devices),
          audit: await all(QUERIES.audit),
        } as Rows;
      },
      close: () => postgres.close(),
    };
  },
};

/** What was asked for and what was answered. `sure` is false while nobody knows whether the last change happened. */
class Model {
  readonly keys: Key[] = [];
  readonly members: Member[] = [];
  changes = 0;
  readonly #coordinator: CoordinatorProcess;
  readonly #folder: string;
  #made = 0;
  readonly #watchers = new Set<() => void>();
  /** Aborted at a kill. */
  down = new AbortController();

  constructor(coordinator: CoordinatorProcess, folder: string) {
    this.#coordinator = coordinator;
    this.#folder = folder;
  }

  /** Changes one thing after the other until `enough` or the kill. */
  async work(enough: number): Promise<void> {
    while (this.changes < enough && !this.down.signal.aborted) {
      await this.#change().catch((error: unknown) => {
        if (!this.down.signal.aborted) throw error;
      });
    }
  }

  async #change(): Promise<void> {
    const sure = <T extends { sure: boolean }>(list: readonly T[], fits: (one: T) => boolean): T | undefined => {
      const fitting = list.filter((one) => one.sure && fits(one));
      return fitting[fitting.length === 0 ? 0 : randomInt(fitting.length)];
    };
    const key = sure(this.keys, ({ state }) => state === "valid");
    const inside = sure(this.members, ({ state }) => state === "in");
    const revoked = sure(this.members, ({ state }) => state === "revoked");
    const dice = randomInt(10);
    if (dice < 2 && key !== undefined)
      await this.#doing(key, async () => {
        await this.#call("DELETE", `/keys/${key.id}`);
        key.state = "revoked";
      });
    else if (dice < 5 && key !== undefined) await this.#join(key);
    else if (dice < 7 && inside !== undefined)
      await this.#doing(inside, async () => {
        await this.#call("POST", `/devices/${inside.name}/revoke`);
        inside.state = "revoked";
      });
    else if (dice < 8 && revoked !== undefined)
      await this.#doing(revoked, async () => {
        await this.#call("DELETE", `/devices/${revoked.name}`);
        revoked.state = "removed";
      });
    else {
      const { id, joinKey } = (await this.#call("POST", "/keys", { role: "device" })) as CreatedKey;
      this.keys.push({ id, secret: decodeJoinKey(joinKey).secret, state: "valid", sure: true });
    }
    this.changes++;
    for (const look of [...this.#watchers]) look();
  }

  /** Fulfilled when so many changes were answered. */
  reached(changes: number): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.changes < changes) return;
        this.#watchers.delete(look);
        resolve();
      };
      this.#watchers.add(look);
      look();
    });
  }

  /** Not sure of it while it is under way, and for ever when no answer came. */
  async #doing(one: { sure: boolean }, change: () => Promise<void>): Promise<void> {
    one.sure = false;
    await change();
    one.sure = true;
  }

  async #join(key: Key): Promise<void> {
    key.sure = false;
    const name = `device-${++this.#made}-x`;
    const device = new TestDevice(this.#coordinator, name, key.secret);
    const member: Member = { name, machineKey: device.machineKey, key, state: "in", sure: false };
    this.members.push(member);
    await this.#welcomed(device, this.down.signal);
    member.sure = true;
    key.state = "used";
    key.sure = true;
  }

  async #welcomed(device: TestDevice, signal?: AbortSignal): Promise<void> {
    const stop = (): void => device.stop();
    signal?.addEventListener("abort", stop);
    await Promise.race([device.until(({ deviceId }) => deviceId !== undefined), device.stopped]);
    device.stop();
    await device.stopped;
    signal?.removeEventListener("abort", stop);
    if (device.deviceId === undefined) throw new Error(`not welcome: ${device.refusal ?? "stopped"}`);
  }

  async #call(method: string, path: string, body?: unknown): Promise<unknown> {
    const answer = await requestUnix({
      socket: join(this.#folder, "admin.sock"),
      method,
      path: `/api/v1${path}`,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      timeoutMs: CALL_TIMEOUT_MS,
    });
    if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
    return answer.body === "" ? undefined : JSON.parse(answer.body);
  }

  /** Every answered change lasts; no change lasts by half; what was not answered is now known. */
  check({ keys, devices, audit }: Rows): void {
    const keyRows = new Map(keys.map((row) => [row.id, row]));
    const deviceRows = new Map(devices.map((row) => [row.machine_key, row]));
    const machine = ({ machineKey }: Member): string => keyOf(machineKey.publicKey);
    for (const member of this.members) {
      const row = deviceRows.get(machine(member));
      const state = row === undefined ? "removed" : row.revoked_at_ms === null ? "in" : "revoked";
      if (member.sure) assert.equal(state, member.state, member.name);
      // Still not in: it comes again with its key.
      else if (member.state !== "in" || row !== undefined) {
        Object.assign(member, { state, sure: true });
        Object.assign(member.key, { state: "used" });
      }
    }
    for (const key of this.keys) {
      const row = keyRows.get(key.id);
      // Dead ones make room when there are a thousand.
      if (row === undefined) assert.notEqual(key.state, "valid", `the key ${key.id} is gone`);
      const state = row?.revoked_at_ms !== null ? "revoked" : row.used_by !== null ? "used" : "valid";
      if (key.sure && row !== undefined) assert.equal(state, key.state, key.id);
      if (row !== undefined) Object.assign(key, { state, sure: true });
    }
    let before = AUDIT_ROOT;
    for (const { hash, ...entry } of audit) {
      assert.equal(hash, auditHash(before, entry), `entry ${entry.seq} is bound to the one before it`);
      before = hash;
    }
    const targets = (action: string): string[] => audit.filter((e) => e.action === action).map(({ target }) => target);
    const joins = audit.filter(({ action }) => action === "device.join");
    const removed = new Set(targets("device.remove"));
    assert.deepEqual(
      devices.map(({ id }) => id).sort(),
      joins
        .map(({ target }) => target)
        .filter((id) => !removed.has(id))
        .sort(),
      "a device and its entry come and go together",
    );
    const usedFor = new Set(joins.map(({ details }) => (JSON.parse(details) as { key: string }).key));
    for (const { id, used_by } of keys) assert.equal(used_by !== null, usedFor.has(id), `the use of ${id}`);
    const noted = new Set(targets("device.revoke"));
    for (const { id, revoked_at_ms } of devices) assert.equal(revoked_at_ms !== null, noted.has(id), `revoked ${id}`);
  }

  /** Devices that were cut off in the middle of joining come again, with a key that may be used up by them. */
  async rejoin(): Promise<void> {
    for (const member of this.members.filter(({ sure, state }) => !sure && state === "in")) {
      await this.#welcomed(new TestDevice(this.#coordinator, member.name, member.key.secret, member.machineKey));
      member.sure = true;
      Object.assign(member.key, { state: "used", sure: true });
    }
  }
}

for (const [name, open] of Object.entries(ENGINES)) {
  test(`${name}: of ${CHANGES} changes and ${KILLS} kills no answered change is lost, none lasts by half, and devices agree`, {
    timeout: LONG ? 1_800_000 : 300_000,
  }, async (t) => {
    const engine = await open();
    const folder = await mkdtemp(join(tmpdir(), "exn-chaos-"));
    const coordinator = await CoordinatorProcess.start({ folder, port: await freePort(), store: engine.store });
    const watcher = new TestDevice(coordinator, "watcher", await coordinator.key({ role: "device" }));
    try {
      await watcher.until(({ map }) => map !== undefined);
      const model = new Model(coordinator, folder);
      for (let kill = 1; kill <= KILLS; kill++) {
        const enough = Math.ceil((CHANGES * kill) / KILLS);
        const killAt = model.changes + randomInt(1, Math.max(2, enough - model.changes));
        model.down = new AbortController();
        const workers = Array.from({ length: WORKERS }, () => model.work(enough));
        // Somewhere within the change after this one.
        await Promise.race([model.reached(killAt), Promise.all(workers)]);
        model.down.abort();
        await coordinator.end("SIGKILL");
        await Promise.all(workers);
        model.check(await engine.rows(folder));
        await coordinator.start();
        await model.rejoin();
        model.down = new AbortController();
        await Promise.all(Array.from({ length: WORKERS }, () => model.work(enough)));
      }
      const members = (await coordinator.devices()).filter(
        (one) => one.revokedAtMs === undefined && one.name !== "watcher",
      );
      const wanted = members.map((one) => one.name).sort();
      await watcher.until(
        ({ map }) => JSON.stringify(map?.peers.map((peer) => peer.name).sort()) === JSON.stringify(wanted),
      );
      await coordinator.end("SIGKILL");
      model.check(await engine.rows(folder));
      t.diagnostic(`${model.changes} changes answered, ${KILLS + 1} kills, ${wanted.length} devices in at the end`);
    } finally {
      watcher.stop();
      await watcher.stopped;
      await coordinator.end();
      await engine.close();
      await rm(folder, { recursive: true, force: true });
    }
  });
}
