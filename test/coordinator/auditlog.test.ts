import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type AuditEvent, AuditTable } from "../../src/coordinator/store/audit.js";
import type { AuditRow } from "../../src/coordinator/store/schema.js";
import type { Store } from "../../src/coordinator/store/store.js";
import { AUDIT_ROOT, type AuditEntry, auditHash, followChain } from "../../src/wire/audit.js";
import { type Opened, startEngines } from "./engines.js";

const LIMIT = { timeout: 120_000 };
let started: Awaited<ReturnType<typeof startEngines>>;
before(async () => {
  started = await startEngines();
});
after(() => started.close());

/** The same in SQLite and in PostgreSQL. */
async function inBoth(
  claim: (store: Store, opened: Opened & { readonly name: string }) => Promise<void>,
): Promise<void> {
  for (const engine of started.engines) {
    const opened = await engine.open();
    try {
      await claim(opened.store, { ...opened, name: engine.name });
    } finally {
      await opened.end();
    }
  }
}

const event = (n: number, action = "device.join"): AuditEvent => ({
  at: 1_000 * n,
  by: { name: n % 2 === 0 ? "socket" : "admin-token", remote: n % 2 === 0 ? "" : "203.0.113.7" },
  action,
  target: `d${n}`,
  details: { name: `laptop "${n}"`, left: undefined },
});
const entry = ({ at_ms, ...row }: AuditRow): AuditEntry => ({ ...row, atMs: at_ms });
const START = { seq: 0, hash: AUDIT_ROOT };

test("entries are numbered without gaps and bound to one another, also when many are written at once", LIMIT, () =>
  inBoth(async (store, { name }) => {
    await Promise.all(Array.from({ length: 40 }, (_, n) => store.change(({ audit }) => audit.append(event(n)))));
    const rows = await store.view.audit.list({ after: 0, limit: 100 });
    assert.deepEqual(followChain(START, rows.map(entry)), { end: await store.view.audit.last() }, name);
    assert.equal(rows.length, 40);
  }),
);

test("what belongs to a change that fails is not written", LIMIT, () =>
  inBoth(async (store) => {
    await assert.rejects(
      store.change(async ({ audit }) => {
        await audit.append(event(1));
        throw new Error("the change fails");
      }),
    );
    assert.deepEqual(await store.view.audit.last(), START);
  }),
);

test("an entry that is altered, taken out, added or moved breaks the chain where that was done", LIMIT, () =>
  inBoth(async (store) => {
    for (let n = 1; n <= 6; n++) await store.change(({ audit }) => audit.append(event(n)));
    const entries = (await store.view.audit.list({ after: 0, limit: 10 })).map(entry);
    const [first, second, third, ...rest] = entries;
    if (first === undefined || second === undefined || third === undefined) throw new Error("six were written");
    for (const [field, value] of Object.entries({
      atMs: 7,
      actor: "x",
      remote: "x",
      action: "x",
      target: "x",
      details: "{}",
    }))
      assert.deepEqual(
        followChain(START, [first, { ...second, [field]: value }, third, ...rest]),
        { broken: 2 },
        field,
      );
    assert.deepEqual(followChain(START, [first, third, ...rest]), { broken: 2 });
    assert.deepEqual(followChain(START, [second, first, third, ...rest]), { broken: 1 });
    const forged = { ...third, actor: "x" };
    const hash = auditHash(second.hash, { ...forged, at_ms: forged.atMs });
    // Whoever forges its hash too breaks the next one.
    assert.deepEqual(followChain(START, [first, second, { ...forged, hash }, ...rest]), { broken: 4 });
  }),
);

test("entries are found by who, what, which and when, from either end", LIMIT, () =>
  inBoth(async (store) => {
    for (let n = 1; n <= 6; n++)
      await store.change(({ audit }) =>
        audit.append(event(n, n > 4 ? "key.create" : n > 2 ? "device.revoke" : "device.join")),
      );
    const seqs = async (want: Partial<Parameters<AuditTable["list"]>[0]>): Promise<number[]> =>
      (await store.view.audit.list({ limit: 10, ...want })).map(({ seq }) => seq);
    assert.deepEqual(await seqs({}), [6, 5, 4, 3, 2, 1]);
    assert.deepEqual(await seqs({ before: 4, limit: 2 }), [3, 2]);
    assert.deepEqual(await seqs({ after: 4 }), [5, 6]);
    assert.deepEqual(await seqs({ actor: "socket" }), [6, 4, 2]);
    assert.deepEqual(await seqs({ action: "device.*" }), [4, 3, 2, 1]);
    assert.deepEqual(await seqs({ action: "device.revoke", target: "d4" }), [4]);
    assert.deepEqual(await seqs({ since: 2_000, until: 4_000 }), [3, 2]);
  }),
);

test("the log stays bounded, and what is left is bound to what was let go, which an entry tells", LIMIT, () =>
  inBoth(async (store, { db }) => {
    const limits = { kept: 20, cut: 10 };
    for (let n = 1; n <= 57; n++)
      await db.transaction().execute((within) => new AuditTable(within, limits).append(event(n)));
    const rows = await store.view.audit.list({ after: 0, limit: 100 });
    assert.ok(rows.length >= limits.kept && rows.length <= limits.kept + limits.cut + 1, `${rows.length} are left`);
    const root = await store.view.audit.root();
    assert.deepEqual(followChain(root, rows.map(entry)), { end: await store.view.audit.last() });
    const told = rows.filter(({ action }) => action === "audit.cut").at(-1);
    assert.deepEqual(JSON.parse(told?.details ?? "{}"), root);
    assert.equal(told?.actor, "coordinator");
  }),
);
