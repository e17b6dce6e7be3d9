import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { Store } from "../../src/coordinator/store/store.js";
import { PENDING_MAX, Webhooks } from "../../src/coordinator/webhooks.js";
import { DELIVERY_ATTEMPTS_MAX, WebhookSender } from "../../src/coordinator/webhooksender.js";
import type { Clock } from "../../src/sys/clock.js";
import { systemRandom } from "../../src/sys/random.js";
import { type WebPost, webPost } from "../../src/sys/webpost.js";
import { administratorOf } from "./administrator.js";
import { openBench } from "./bench.js";
import { startEngines } from "./engines.js";

const LIMIT = { timeout: 300_000 };
const BY = { name: "socket", remote: "" };
let started: Awaited<ReturnType<typeof startEngines>>;
before(async () => {
  started = await startEngines();
});
after(() => started.close());

async function inBoth(claim: (store: Store) => Promise<void>): Promise<void> {
  for (const engine of started.engines) {
    const { store, end } = await engine.open();
    try {
      await claim(store);
    } finally {
      await end();
    }
  }
}

/** A clock whose sleeps take next to no time, and are over as if they had taken three hundred times theirs. */
function hastyClock(): Clock {
  let at = Date.now();
  return {
    wall: () => at,
    now: () => at,
    async sleep(duration, signal) {
      await delay(2, undefined, signal === undefined ? {} : { signal });
      at += 300 * duration;
    },
  };
}

type Heard = { readonly headers: IncomingMessage["headers"]; readonly body: string; readonly at: number };

/** Somebody's server: it answers each POST with what `status` says, and keeps what it was told. */
async function receiver(status: (n: number) => number = () => 204) {
  const heard: Heard[] = [];
  const waiting = new Set<() => void>();
  const server = createServer(async (request, response) => {
    const body = await text(request);
    heard.push({ headers: request.headers, body, at: heard.length });
    response.writeHead(status(heard.length)).end();
    for (const look of [...waiting]) look();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    heard,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    until: (condition: () => boolean) =>
      new Promise<void>((resolve) => {
        const look = (): void => {
          if (!condition()) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

type Running = {
  readonly webhooks: Webhooks;
  readonly sender: WebhookSender;
  change(action: string, target: string): Promise<void>;
};

function run(store: Store, post: WebPost = webPost, allowLocal = true): Running {
  const clock = hastyClock();
  const webhooks = new Webhooks({ store, random: systemRandom, wall: () => clock.wall() });
  const sender = new WebhookSender({ store, webhooks, post, clock, random: systemRandom, allowLocal });
  return {
    webhooks,
    sender,
    change: (action, target) =>
      store.change(async ({ audit }) => {
        await audit.append({ at: clock.wall(), by: BY, action, target, details: { name: "laptop" } });
      }),
  };
}

const typesOf = (heard: readonly Heard[]): string[] =>
  heard.map(({ body }) => (JSON.parse(body) as { type: string }).type);

test("a webhook hears of what it asked for, in order, from its creation on, signed as the standard has it", LIMIT, () =>
  inBoth(async (store) => {
    const there = await receiver();
    const { webhooks, sender, change } = run(store);
    await change("device.join", "d0");
    const { id, secret } = await webhooks.create(there.url, ["device.*", "key.create"], BY);
    for (const [action, target] of [
      ["device.join", "d1"],
      ["key.revoke", "k1"],
      ["device.revoke", "d1"],
      ["key.create", "k2"],
    ] as const)
      await change(action, target);
    await there.until(() => there.heard.length === 3);
    assert.deepEqual(typesOf(there.heard), ["device.join", "device.revoke", "key.create"]);
    for (const { headers, body } of there.heard) {
      const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
      const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
      assert.equal(headers["webhook-signature"], `v1,${createHmac("sha256", key).update(signed).digest("base64")}`);
      assert.equal(headers["content-type"], "application/json");
      assert.match(String(headers["webhook-id"]), new RegExp(`^e\\d+-${id}$`));
    }
    const first = JSON.parse(there.heard[0]?.body ?? "") as { data: { target: string; details: unknown } };
    assert.equal(first.data.target, "d1");
    assert.deepEqual(first.data.details, { name: "laptop" });
    await sender.close();
    await there.close();
  }),
);

test("what does not arrive is sent again, under the same id, before anything newer", LIMIT, () =>
  inBoth(async (store) => {
    const there = await receiver((n) => (n <= 3 ? 503 : 200));
    const { webhooks, sender, change } = run(store);
    await webhooks.create(there.url, ["device.*"], BY);
    await change("device.join", "d1");
    await change("device.revoke", "d1");
    await there.until(() => there.heard.length === 5);
    assert.deepEqual(typesOf(there.heard), [...Array<string>(4).fill("device.join"), "device.revoke"]);
    assert.equal(new Set(there.heard.slice(0, 4).map(({ headers }) => headers["webhook-id"])).size, 1);
    await sender.close();
    await there.close();
  }),
);

test(
  "one that never answers delays no other, is given up after its attempts, and a test takes it up again",
  LIMIT,
  () =>
    inBoth(async (store) => {
      let isDead = true;
      const [dead, alive] = [await receiver(() => (isDead ? 500 : 200)), await receiver()];
      const { webhooks, sender, change } = run(store);
      const { id } = await webhooks.create(dead.url, ["device.*"], BY);
      await webhooks.create(alive.url, ["webhook.disable", "device.*"], BY);
      await change("device.join", "d1");
      await alive.until(() => alive.heard.length === 1);
      await alive.until(() => typesOf(alive.heard).includes("webhook.disable"));
      assert.equal(dead.heard.length, DELIVERY_ATTEMPTS_MAX);
      const given = await webhooks.find(id);
      assert.notEqual(given.disabledAtMs, undefined);
      await change("device.join", "d2");
      await alive.until(() => alive.heard.length === 3);
      assert.equal(dead.heard.length, DELIVERY_ATTEMPTS_MAX, "it was told although it was given up");
      isDead = false;
      const tested = await sender.test(given);
      assert.equal("status" in tested && tested.status, 200);
      await sender.close();
      await Promise.all([dead.close(), alive.close()]);
    }),
);

test("what was not sent when a coordinator ended is sent by the next one", LIMIT, () =>
  inBoth(async (store) => {
    const there = await receiver();
    const first = run(store, () => Promise.resolve({ reason: "the line is down" }));
    await first.webhooks.create(there.url, ["*"], BY);
    await first.change("device.join", "d1");
    await first.sender.close();
    assert.equal(there.heard.length, 0);
    const second = run(store);
    await there.until(() => there.heard.length === 2);
    assert.deepEqual(typesOf(there.heard), ["webhook.create", "device.join"]);
    await second.sender.close();
    await there.close();
  }),
);

test("of two coordinators over one store, one sends: each event arrives once", LIMIT, () =>
  inBoth(async (store) => {
    const there = await receiver();
    const [one, two] = [run(store), run(store)];
    await one.webhooks.create(there.url, ["device.*"], BY);
    for (let n = 0; n < 20; n++) await (n % 2 ? one : two).change("device.join", `d${n}`);
    await there.until(() => there.heard.length >= 20);
    await Promise.all([one.sender.close(), two.sender.close()]);
    assert.equal(new Set(there.heard.map(({ headers }) => headers["webhook-id"])).size, 20);
    assert.equal(there.heard.length, 20);
    await there.close();
  }),
);

test("what waits for a webhook is bounded, and the oldest is lost", LIMIT, () =>
  inBoth(async (store) => {
    const { webhooks, sender } = run(store, () => Promise.resolve({ reason: "the line is down" }));
    await webhooks.create("https://192.0.2.1/x", ["device.*"], BY);
    await store.change(async ({ audit }) => {
      for (let n = 0; n < PENDING_MAX + 50; n++)
        await audit.append({ at: 1, by: BY, action: "device.join", target: `d${n}` });
    });
    await webhooks.enqueue();
    const [listed] = await webhooks.list();
    assert.ok(
      listed !== undefined && listed.pending <= PENDING_MAX && listed.pending > PENDING_MAX / 2,
      `${listed?.pending}`,
    );
    await sender.close();
  }),
);

test("no webhook reaches this machine by a name, a disguised address or a redirection", LIMIT, async () => {
  const there = await receiver(() => 302);
  const { port } = new URL(there.url);
  await inBoth(async (store) => {
    const { sender } = run(store, webPost, false);
    const hosts = [
      "127.0.0.1",
      "localhost",
      "[::1]",
      "0.0.0.0",
      "[::ffff:127.0.0.1]",
      "[64:ff9b::7f00:1]",
      "2130706433",
      "127.1",
    ];
    for (const host of hosts) {
      const url = `http://${host}:${port}/`;
      const posted = await sender.test({ id: "w", url, secret: "whsec_AAAA", actions: [], createdAtMs: 0 });
      assert.ok(
        "reason" in posted && /this machine or this link/.test(posted.reason),
        `${host}: ${JSON.stringify(posted)}`,
      );
    }
    await sender.close();
  });
  assert.equal(there.heard.length, 0);
  await inBoth(async (store) => {
    const { sender } = run(store);
    const redirected = await sender.test({
      id: "w",
      url: there.url,
      secret: "whsec_AAAA",
      actions: [],
      createdAtMs: 0,
    });
    assert.equal("status" in redirected && redirected.status, 302);
    await sender.close();
  });
  assert.equal(there.heard.length, 2, "a redirection was followed");
  await there.close();
});

test("exitnode webhook adds one, tests it, lists it without its path, and removes it", LIMIT, async () => {
  const there = await receiver();
  const bench = await openBench({ parts: { post: webPost }, want: { webhooksToThisMachine: true } });
  try {
    const administrator = await administratorOf(bench);
    const added = await administrator.run("webhook", "add", there.url, "--on", "device.*", "--json");
    assert.equal(added.code, 0, added.stdout);
    const { id, secret } = JSON.parse(added.stdout) as { id: string; secret: string };
    const tested = await administrator.run("webhook", "test", id);
    assert.equal(tested.code, 0, tested.stderr);
    assert.deepEqual(typesOf(there.heard), ["webhook.test"]);
    const listed = await administrator.run("webhook", "list");
    assert.match(listed.stdout, /up to date/);
    assert.doesNotMatch(listed.stdout, new RegExp(`/hook|${secret}`));
    assert.equal((await administrator.run("webhook", "remove", id)).code, 0);
    assert.match((await administrator.run("webhook", "test", id)).stderr, /no webhook has the id/);
    assert.match((await administrator.run("webhook", "add", "http://u:p@10.0.0.1/")).stderr, /no user name/);
  } finally {
    await bench.close();
    await there.close();
  }
});
