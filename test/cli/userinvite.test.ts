import assert from "node:assert/strict";
import { after, test } from "node:test";
import { coordinatorBook } from "../../src/cli/createparts.js";
import { inviteUser } from "../../src/cli/useractions.js";
import type { CoordinatorStatus } from "../../src/wire/adminapi.js";
import type { UserInfo } from "../../src/wire/identity.js";
import { ADMIN_TOKEN, openBench } from "../coordinator/bench.js";
import { makeHome } from "./hostworld.js";

/** `user invite` against a coordinator in this process. */
const closing: (() => void | Promise<void>)[] = [];
after(async () => {
  for (const close of closing) await close();
});

async function network(url: string) {
  const bench = await openBench({ want: { urls: [url] } });
  const home = makeHome();
  closing.push(bench.close, home.remove);
  const { publicKey, tlsFingerprint } = (await bench.call("GET", "/api/v1/status")).body as CoordinatorStatus;
  const adminUrls = [`https://127.0.0.1:${bench.coordinator.port}`];
  await coordinatorBook(home.call([])).keep({ urls: [url], adminUrls, publicKey, tlsFingerprint });
  const env = { EXITNODE_ADMIN_TOKEN: ADMIN_TOKEN };
  return {
    invite: (login: string, role?: string) => inviteUser(home.call([login], role === undefined ? {} : { role }, env)),
    people: async () =>
      ((await bench.call("GET", "/api/v1/users")).body as { users: UserInfo[] }).users.map(
        ({ login, role }) => `${login} ${role}`,
      ),
  };
}

test("an invitation with a role gives it, also to somebody who is there, and one without leaves it", async () => {
  const { invite, people } = await network("https://home.example.org");
  await invite("anna");
  assert.deepEqual(await people(), ["anna member"]);
  assert.match((await invite("anna", "owner")).text, /^https:\/\/home\.example\.org\/invite#.*\nanna is an owner$/s);
  assert.deepEqual(await people(), ["anna owner"]);
  await invite("anna");
  await invite("ben", "auditor");
  assert.deepEqual(await people(), ["anna owner", "ben auditor"]);
  await assert.rejects(invite("anna", "queen"), { code: "usage" });
});

test("an invitation that is refused adds nobody", async () => {
  const { invite, people } = await network("https://192.0.2.1");
  await assert.rejects(invite("anna", "owner"), { code: "passkeys-unavailable" });
  assert.deepEqual(await people(), []);
});
