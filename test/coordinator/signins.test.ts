import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { SqliteDialect } from "kysely";
import type { ProviderSignIn } from "../../src/coordinator/identity/oidc.js";
import { People } from "../../src/coordinator/identity/people.js";
import { SignIns } from "../../src/coordinator/identity/signins.js";
import { Registry } from "../../src/coordinator/registry.js";
import { Store } from "../../src/coordinator/store/store.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { Failure } from "../../src/kit/failure.js";
import type { Cidr } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, type Millis } from "../../src/kit/time.js";
import { systemClock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";

const folder = mkdtempSync(join(tmpdir(), "exn-signins-"));
after(() => rmSync(folder, { recursive: true, force: true }));
let stores = 0;

/** Sign-ins of one machine at a provider of the test's, over an empty store, with a clock of the test's. */
async function opened() {
  const store = await Store.open(
    new SqliteDialect({ database: openSqlite(join(folder, `${++stores}.db`)) }),
    "fd01:203:405::/48" as Cidr,
  );
  const range = "100.64.0.0/10" as Cidr;
  let at = systemClock.wall();
  const [random, wall] = [systemRandom, () => at];
  const registry = await Registry.open({ store, range, random, clock: { ...systemClock, wall } });
  const people = await People.open({ store, registry, random, wall, changed: () => undefined });
  /** Each ends one sign-in without anybody. */
  const fail: (() => void)[] = [];
  const beginDevice = async (): Promise<ProviderSignIn> => ({
    ...{ url: "https://provider.example/device", code: `CODE-${fail.length}`, expiresAtMs: wall() + MINUTE },
    vouched: new Promise((_, reject) => fail.push(() => reject(new Failure("sign-in-refused", "it has expired")))),
  });
  const origin = "https://home.example";
  const open = (): SignIns =>
    new SignIns({ store, registry, people, random, wall, origin, isShared: false, provider: { beginDevice } });
  let signIns = open();
  return {
    fail,
    greet: () => signIns.greet(keyOf(hash(utf8("machine"))), "twin", "198.51.100.1"),
    advance: (ms: Millis) => {
      at += ms;
    },
    /** Whatever was rejected has been heard, and what follows from it is in the store. */
    async heard() {
      await new Promise((resolve) => setImmediate(resolve));
      await store.change(async () => undefined);
    },
    restart() {
      signIns.close();
      signIns = open();
    },
    async end() {
      for (const end of fail) end();
      signIns.close();
      await registry.settled();
      await store.close();
    },
  };
}

test("of two sign-ins that a machine begins at once one is shown, and the other's end harms nobody", async () => {
  const { greet, fail, heard, end } = await opened();
  const [one, other] = await Promise.all([greet(), greet()]);
  assert.equal(fail.length, 2, "the provider was asked twice");
  assert.deepEqual(one, other);
  // A promise that is rejected and that nobody looks at would end the process, and this test with it.
  for (const each of fail) each();
  await heard();
  assert.deepEqual(await greet(), { kind: "refused", code: "sign-in-refused" });
  assert.equal((await greet()).kind, "wait", "told once, the machine may begin again");
  await end();
});

test("a sign-in that has expired does not refuse the one that the machine has begun since", async () => {
  const { greet, fail, heard, advance, end } = await opened();
  const first = await greet();
  advance(MINUTE);
  const second = await greet();
  assert.equal(second.kind, "wait");
  assert.notDeepEqual(second, first);
  fail[0]?.();
  await heard();
  assert.deepEqual(await greet(), second);
  await end();
});

test("a coordinator that was started anew shows another code: nobody asks the provider about the old one", async () => {
  const { greet, restart, end } = await opened();
  const first = await greet();
  assert.deepEqual(await greet(), first);
  restart();
  const second = await greet();
  assert.equal(second.kind, "wait");
  assert.notDeepEqual(second, first);
  assert.deepEqual(await greet(), second);
  await end();
});
