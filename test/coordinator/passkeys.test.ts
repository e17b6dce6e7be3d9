import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { KeyPair } from "../../src/kit/crypto.js";
import { asFailure } from "../../src/kit/failure.js";
import type { DeviceInfo } from "../../src/wire/adminapi.js";
import type { UserInfo } from "../../src/wire/identity.js";
import { askingMachine } from "./askingmachine.js";
import { Authenticator, type Mistakes } from "./authenticator.js";
import { type Bench, request } from "./bench.js";
import { overBothStores } from "./bothstores.js";
import { Browser, fieldOf, type Page } from "./browser.js";
import { freePort } from "./freeport.js";

const LIMIT = { timeout: 120_000 };
const DAY_MS = 24 * 3_600_000;

overBothStores(({ open, stored }) => {
  let bench: Bench;
  let site = "";
  before(async () => {
    const port = await freePort();
    site = `https://localhost:${port}`;
    bench = await open({ want: { listen: { address: "127.0.0.1", port }, urls: [site] } });
  });
  after(() => bench.close());

  type Person = { browser: Browser; passkey: Authenticator; user: UserInfo };

  async function invite(login: string, role = "member"): Promise<{ user: UserInfo; secret: string }> {
    const user = (await bench.call("POST", "/api/v1/users", { login, role })).body as UserInfo;
    const made = await bench.call("POST", `/api/v1/users/${encodeURIComponent(login)}/invite`);
    assert.equal(made.status, 201);
    const { url } = made.body as { url: string };
    assert.ok(url.startsWith(`${site}/invite#`));
    return { user, secret: new URL(url).hash.slice(1) };
  }

  async function enrol(browser: Browser, secret: string, passkey: Authenticator, mistakes?: Mistakes): Promise<Page> {
    const options = await browser.json(`${site}/invite/options`, { secret });
    const challenge = options.status === 200 ? String(JSON.parse(options.text).challenge) : "";
    return browser.json(`${site}/invite`, { secret, passkey: passkey.create(challenge, mistakes) });
  }

  async function person(login: string, role?: string): Promise<Person> {
    const { user, secret } = await invite(login, role);
    const [browser, passkey] = [new Browser(), new Authenticator(site)];
    const made = await enrol(browser, secret, passkey);
    assert.equal(made.status, 200, made.text);
    return { browser, passkey, user };
  }

  async function signIn(browser: Browser, passkey: Authenticator, mistakes?: Mistakes): Promise<Page> {
    const options = await browser.json(`${site}/sign-in/passkey/options`, { to: "/device" });
    return browser.json(`${site}/sign-in/passkey`, passkey.get(String(JSON.parse(options.text).challenge), mistakes));
  }

  const machine = (name: string, machineKey?: KeyPair) => askingMachine(bench, name, machineKey);

  const devices = async (): Promise<DeviceInfo[]> =>
    ((await bench.call("GET", "/api/v1/devices")).body as { devices: DeviceInfo[] }).devices;

  test("an invitation makes a passkey once, and the passkey signs in from then on", LIMIT, async () => {
    const { user, secret } = await invite("anna@example.com", "owner");
    const [browser, passkey] = [new Browser(), new Authenticator(site)];
    assert.equal((await enrol(browser, secret, passkey)).status, 200);
    assert.match((await browser.get(`${site}/`)).text, /anna@example\.com/);
    assert.equal((await new Browser().json(`${site}/invite/options`, { secret })).status, 404);
    const elsewhere = new Browser();
    const signed = await signIn(elsewhere, passkey);
    assert.deepEqual([signed.status, JSON.parse(signed.text)], [200, { to: "/device" }]);
    const session = await elsewhere.get(`${site}/api/v1/session`);
    assert.equal(JSON.parse(session.text).user.id, user.id);
  });

  test("a wrong origin, name, challenge, kind, signature or an unverified person signs nobody in", LIMIT, async () => {
    const { passkey } = await person("bert@example.com");
    const wrong: Mistakes[] = [
      { origin: "https://evil.example" },
      { rpId: "evil.example" },
      { challenge: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" },
      { type: "webauthn.create" },
      { forged: true },
      { unverified: true },
    ];
    for (const mistakes of wrong) {
      const browser = new Browser();
      const answer = await signIn(browser, passkey, mistakes);
      assert.deepEqual(
        [answer.status, JSON.parse(answer.text).code],
        [403, "passkey-refused"],
        JSON.stringify(mistakes),
      );
      assert.equal((await browser.get(`${site}/`)).status, 302);
    }
    const { secret } = await invite("bianca@example.com");
    for (const mistakes of wrong.filter(({ forged }) => forged === undefined)) {
      const kind = mistakes.type === undefined ? mistakes : { type: "webauthn.get" };
      assert.equal((await enrol(new Browser(), secret, new Authenticator(site), kind)).status, 403);
    }
  });

  test("an answer counts once, and a copied passkey whose counter stands still is refused", LIMIT, async () => {
    const { passkey } = await person("carl@example.com");
    const browser = new Browser();
    const options = await browser.json(`${site}/sign-in/passkey/options`, {});
    const flow = [...browser.cookies];
    const answer = passkey.get(String(JSON.parse(options.text).challenge));
    assert.equal((await browser.json(`${site}/sign-in/passkey`, answer)).status, 200);
    const thief = new Browser();
    for (const [name, value] of flow) thief.cookies.set(name, value);
    assert.equal(JSON.parse((await thief.json(`${site}/sign-in/passkey`, answer)).text).code, "sign-in-stray");
    passkey.counter = 0;
    assert.equal((await signIn(new Browser(), passkey)).status, 403);
  });

  test("the cookie is Host-bound, secure, unreadable by scripts, and the store has its hash alone", LIMIT, async () => {
    const { browser, passkey, user } = await person("dora@example.com");
    const before = [...browser.cookies.values()];
    const options = await browser.json(`${site}/sign-in/passkey/options`, {});
    const signed = await browser.json(
      `${site}/sign-in/passkey`,
      passkey.get(String(JSON.parse(options.text).challenge)),
    );
    const [cookie = ""] = [signed.headers["set-cookie"] ?? []].flat();
    assert.match(cookie, /^__Host-exitnode=[\w-]{43}; Path=\/; Max-Age=\d+; Secure; HttpOnly; SameSite=Lax$/);
    const value = /=([\w-]{43});/.exec(cookie)?.[1] ?? assert.fail("a value");
    const text = await stored(bench);
    assert.ok(text.includes(user.id), "what is searched holds what is known to be there");
    assert.equal(text.includes(value), false);
    // Signing in makes a new session, and the one of before is over.
    const old = new Browser();
    for (const value of before) old.cookies.set(`${new URL(site).host} __Host-exitnode`, value);
    assert.equal((await old.get(`${site}/`)).status, 302);
  });

  test("a session ends when nobody uses it, at the latest after a week, and by signing out", LIMIT, async () => {
    const { browser, passkey } = await person("emil@example.com");
    bench.advance(11 * 3_600_000);
    assert.equal((await browser.get(`${site}/`)).status, 200);
    bench.advance(11 * 3_600_000);
    assert.equal((await browser.get(`${site}/`)).status, 200, "use prolongs it");
    bench.advance(13 * 3_600_000);
    assert.equal((await browser.get(`${site}/`)).status, 302);
    await signIn(browser, passkey);
    for (let n = 0; n < 15; n++) {
      bench.advance(11 * 3_600_000);
      await browser.get(`${site}/`);
    }
    bench.advance(4 * 3_600_000);
    assert.equal((await browser.get(`${site}/`)).status, 302);
    await signIn(browser, passkey);
    const page = await browser.get(`${site}/`);
    const stolen = new Browser();
    for (const [name, value] of browser.cookies) stolen.cookies.set(name, value);
    assert.equal((await browser.form(`${site}/sign-out`, { csrf: fieldOf(page, "csrf") })).status, 303);
    assert.equal((await stolen.get(`${site}/`)).status, 302);
  });

  test("what another site sends changes nothing, nor a form without its token", LIMIT, async () => {
    const { browser } = await person("frida@example.com", "owner");
    const { csrf } = { csrf: fieldOf(await browser.get(`${site}/`), "csrf") };
    const sent = [
      browser.form(`${site}/sign-out`, { csrf }, { origin: "https://evil.example" }),
      browser.form(`${site}/sign-out`, { csrf }, { origin: null }),
      browser.form(`${site}/sign-out`, { csrf }, { headers: { "sec-fetch-site": "cross-site" } }),
      browser.form(`${site}/sign-out`, { csrf: "x" }),
      browser.json(`${site}/api/v1/users`, { login: "planted@example.com" }),
      browser.json(
        `${site}/api/v1/users`,
        { login: "planted@example.com" },
        { origin: "https://evil.example", headers: { "x-exitnode-csrf": csrf } },
      ),
    ];
    for (const { status } of await Promise.all(sent)) assert.equal(status, 403);
    const own = { headers: { "x-exitnode-csrf": csrf } };
    assert.equal((await browser.json(`${site}/api/v1/users`, { login: "meant@example.com" }, own)).status, 201);
    assert.equal((await browser.get(`${site}/`)).status, 200);
  });

  test("a machine shows a code, its person confirms it, and it is in as theirs for 180 days", LIMIT, async () => {
    const { browser } = await person("gerd@example.com");
    const { shown, done } = machine("laptop");
    const { url, code, expiresAtMs } = await shown;
    assert.ok(url.startsWith(`${site}/device?code=`) && /^[B-Z]{4}-[B-Z]{4}$/.test(code) && expiresAtMs > Date.now());
    assert.equal((await new Browser().get(url)).status, 302, "a stranger signs in first");
    const page = await browser.get(url);
    assert.match(page.text, new RegExp(`laptop wants to join[\\s\\S]*${code}`));
    const answer = await browser.form(`${site}/device`, { csrf: fieldOf(page, "csrf"), code, do: "confirm" });
    assert.equal(answer.status, 200, answer.text);
    await done;
    const laptop = (await devices()).find(({ name }) => name === "laptop");
    assert.ok(laptop);
    assert.match((await browser.get(`${site}/`)).text, /laptop[\s\S]*to be signed in again in 180 days/);
    const again = await browser.form(`${site}/device`, { csrf: fieldOf(page, "csrf"), code, do: "confirm" });
    assert.equal(again.status, 404, "a code lets one machine in");
  });

  test("a key that has expired is renewed by its person, and by nobody else", LIMIT, async () => {
    const [heidi, ivan] = [await person("heidi@example.com"), await person("ivan@example.com")];
    const confirm = async ({ browser, passkey }: Person, url: string, code: string): Promise<number> => {
      await signIn(browser, passkey);
      const page = await browser.get(url);
      return (await browser.form(`${site}/device`, { csrf: fieldOf(page, "csrf"), code, do: "confirm" })).status;
    };
    const first = machine("tablet");
    const told = await first.shown;
    await confirm(heidi, told.url, told.code);
    await first.done;
    // In order: asked again, it is simply in.
    await machine("tablet", first.machineKey).done;
    bench.advance(181 * DAY_MS);
    const stranger = machine("tablet", first.machineKey);
    const asked = await stranger.shown;
    await confirm(ivan, asked.url, asked.code);
    await assert.rejects(stranger.done, { code: "sign-in-refused" });
    const second = machine("tablet", first.machineKey);
    const anew = await second.shown;
    await confirm(heidi, anew.url, anew.code);
    await second.done;
    assert.equal((await devices()).filter(({ name }) => name === "tablet").length, 1);
  });

  test("a refused machine is told so; a code nobody uses expires, and the next one is another", LIMIT, async () => {
    const { browser } = await person("jana@example.com");
    const first = machine("stray");
    const { url, code } = await first.shown;
    await browser.form(`${site}/device`, { csrf: fieldOf(await browser.get(url), "csrf"), code, do: "refuse" });
    await assert.rejects(first.done, { code: "sign-in-refused" });
    const second = machine("late");
    const early = await second.shown;
    second.stop.abort();
    await assert.rejects(second.done);
    bench.advance(10 * 60_000);
    const third = machine("late", second.machineKey);
    assert.notEqual((await third.shown).code, early.code);
    third.stop.abort();
  });

  test(
    "waiting machines of one address make room for one another, and codes cannot be tried without end",
    LIMIT,
    async () => {
      const { browser } = await person("kurt@example.com");
      const first = machine("first");
      const { url } = await first.shown;
      first.stop.abort();
      const others = Array.from({ length: 8 }, (_, n) => machine(`other-${n}`));
      for (const { shown, stop } of others) await shown.then(() => stop.abort());
      assert.equal((await browser.get(url)).status, 404, "the oldest of nine has gone");
      const statuses: number[] = [];
      for (let n = 0; n < 24; n++) statuses.push((await browser.get(`${site}/device?code=BBBB-BBBB`)).status);
      assert.equal(statuses.at(-1), 429);
    },
  );

  test(
    "a member sees neither users nor another's devices, and a disabled one is out at once, devices too",
    LIMIT,
    async () => {
      const lars = await person("lars@example.com");
      const asked = machine("phone");
      const { url, code } = await asked.shown;
      const page = await lars.browser.get(url);
      await lars.browser.form(`${site}/device`, { csrf: fieldOf(page, "csrf"), code, do: "confirm" });
      await asked.done;
      assert.equal((await lars.browser.get(`${site}/api/v1/users`)).status, 403);
      const theirs = (await devices()).find(({ name }) => name === "laptop");
      const csrf = fieldOf(await lars.browser.get(`${site}/`), "csrf");
      assert.equal((await lars.browser.form(`${site}/devices/${theirs?.id}/revoke`, { csrf })).status, 404);
      const before = await bench.call("PATCH", "/api/v1/users/lars@example.com", { disabled: true });
      assert.equal((before.body as UserInfo).disabledAtMs !== undefined, true);
      assert.equal((await lars.browser.get(`${site}/`)).status, 302);
      assert.equal(JSON.parse((await signIn(lars.browser, lars.passkey)).text).code, "sign-in-refused");
      const phone = machine("phone", asked.machineKey);
      assert.ok((await phone.shown).code, "its key has ended: it needs a sign-in");
      phone.stop.abort();
    },
  );

  test("pages allow nothing inline, nothing foreign and no frame; a machine's name is text", LIMIT, async () => {
    const { status, headers, text } = await new Browser().get(`${site}/sign-in?to=//evil.example/`);
    assert.equal(status, 200);
    assert.match(
      String(headers["content-security-policy"]),
      /default-src 'none'.*script-src 'self'.*frame-ancestors 'none'/,
    );
    assert.equal(headers["cache-control"], "no-store");
    assert.match(text, /data-to="\/"/);
    assert.doesNotMatch(text, /evil|<script>|style=|onclick/);
    const missing = await new Browser().get(`${site}/sign-in/nothing`);
    assert.deepEqual([missing.status, typeof missing.headers["content-security-policy"]], [404, "string"]);
  });

  test("whoever wants to trust the certificate is told the key, and nothing else, without a token", LIMIT, async () => {
    const { status, body } = await request(bench.coordinator.port, "GET", "/api/v1/network", undefined, "");
    assert.deepEqual([status, body], [200, { publicKey: bench.coordinator.publicKey, urls: [site] }]);
  });

  test(
    "nobody's page shuts out another's device, nor does another site, nor another session's token",
    LIMIT,
    async () => {
      const [nora, olga] = [await person("nora@example.com"), await person("olga@example.com")];
      const asked = machine("noras-laptop");
      const { url, code } = await asked.shown;
      const csrf = async ({ browser }: Person): Promise<string> => fieldOf(await browser.get(`${site}/`), "csrf");
      await nora.browser.form(`${site}/device`, { csrf: await csrf(nora), code, do: "confirm" });
      await asked.done;
      assert.match(url, /code=/);
      const { id = "" } = (await devices()).find(({ name }) => name === "noras-laptop") ?? {};
      const path = `${site}/devices/${id}/revoke`;
      const own = await csrf(nora);
      const others = await csrf(olga);
      const second = new Browser();
      await signIn(second, nora.passkey);
      const sent: [string, number, Promise<Page>][] = [
        ["somebody else, from her own page", 404, olga.browser.form(path, { csrf: others })],
        ["somebody else, with the owner's token", 403, olga.browser.form(path, { csrf: own })],
        ["the owner, with somebody else's token", 403, nora.browser.form(path, { csrf: others })],
        ["the owner, with the token of another session of hers", 403, second.form(path, { csrf: own })],
        ["the owner, with no token", 403, nora.browser.form(path, {})],
        ["another site", 403, nora.browser.form(path, { csrf: own }, { origin: "https://evil.example" })],
        ["another site, of no name", 403, nora.browser.form(path, { csrf: own }, { origin: null })],
        [
          "a page of the same site that is not ours",
          403,
          nora.browser.form(path, { csrf: own }, { headers: { "sec-fetch-site": "same-site" } }),
        ],
        ["nobody", 303, new Browser().form(path, { csrf: own })],
        ["by a link", 404, nora.browser.get(path)],
        ["by its name", 404, nora.browser.form(`${site}/devices/noras-laptop/revoke`, { csrf: own })],
      ];
      for (const [who, status, page] of sent) assert.equal((await page).status, status, who);
      const isRevoked = async (): Promise<boolean> =>
        (await devices()).find((device) => device.id === id)?.revokedAtMs !== undefined;
      assert.equal(await isRevoked(), false);
      assert.match((await nora.browser.get(`${site}/`)).text, /noras-laptop/);
      assert.doesNotMatch((await olga.browser.get(`${site}/`)).text, /noras-laptop/);
      assert.equal((await nora.browser.form(path, { csrf: own })).status, 303);
      assert.equal(await isRevoked(), true);
      assert.doesNotMatch((await nora.browser.get(`${site}/`)).text, /noras-laptop/);
    },
  );

  test(
    "a person's word counts no more once they are disabled, and no address begins sign-ins without end",
    LIMIT,
    async () => {
      const mara = await person("mara@example.com");
      const asked = machine("watch");
      const { url, code } = await asked.shown;
      asked.stop.abort();
      const page = await mara.browser.get(url);
      await mara.browser.form(`${site}/device`, { csrf: fieldOf(page, "csrf"), code, do: "confirm" });
      await bench.call("PATCH", "/api/v1/users/mara@example.com", { disabled: true });
      await assert.rejects(machine("watch", asked.machineKey).done, { code: "sign-in-refused" });
      const refused: string[] = [];
      for (let n = 0; n < 400 && refused.length === 0; n++) {
        const flood = machine(`flood-${n}`);
        const ended = flood.done.then(
          () => undefined,
          (error: unknown) => asFailure(error).code,
        );
        const refusal = await Promise.race([flood.shown.then(() => undefined), ended]);
        if (refusal !== undefined) refused.push(refusal);
        flood.stop.abort();
      }
      assert.deepEqual(refused, ["sign-ins-full"]);
    },
  );
});
