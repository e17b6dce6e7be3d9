import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import type { UserInfo } from "../../src/wire/identity.js";
import { askingMachine } from "./askingmachine.js";
import type { Bench } from "./bench.js";
import { overBothStores } from "./bothstores.js";
import { Browser, fieldOf, type Page } from "./browser.js";
import { freePort } from "./freeport.js";
import { CLIENT, type IdentityProvider, openProvider } from "./identityprovider.js";

const LIMIT = { timeout: 120_000 };

overBothStores(({ open }) => {
  let folder = "";
  let site = "";
  let bench: Bench;
  let provider: IdentityProvider;
  /** What a provider that lies puts into the ID token instead; undefined: it is honest. */
  let lie: ((claims: JWTPayload) => JWTPayload) | undefined;
  /** With a key that the provider does not publish. */
  let isForged = false;
  let between: typeof fetch;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "exn-ac-"));
    const port = await freePort();
    site = `https://localhost:${port}`;
    provider = await openProvider(folder, `${site}/sign-in/oidc/back`);
    await writeFile(join(folder, "secret"), `${CLIENT.secret}\n`, { mode: 0o600 });
    const { privateKey, publicKey } = await generateKeyPair("RS256");
    const stranger = await generateKeyPair("RS256");
    const jwk = { ...(await exportJWK(publicKey)), kid: "liar", alg: "RS256", use: "sig" };
    /** Stands between: its key is beside the provider's own, and with it the tokens are signed anew. */
    between = async (input, options) => {
      const answer = await provider.fetch(input, options);
      const path = new URL(String(input)).pathname;
      if (path === "/jwks") {
        const { keys } = (await answer.json()) as { keys: object[] };
        return Response.json({ keys: [...keys, jwk] });
      }
      if (path !== "/token" || lie === undefined) return answer;
      const tokens = (await answer.json()) as { id_token: string };
      const claims = JSON.parse(Buffer.from(tokens.id_token.split(".")[1] ?? "", "base64url").toString()) as JWTPayload;
      const id_token = await new SignJWT(lie(claims))
        .setProtectedHeader({ alg: "RS256", kid: "liar" })
        .sign(isForged ? stranger.privateKey : privateKey);
      return Response.json({ ...tokens, id_token });
    };
    bench = await openCoordinator(port, false);
  });
  after(async () => {
    await bench.close();
    await provider.close();
    await rm(folder, { recursive: true, force: true });
  });

  function openCoordinator(port: number, deviceFlow: boolean): Promise<Bench> {
    const oidc = {
      ...{ issuer: provider.issuer, clientId: CLIENT.id, clientSecretFile: join(folder, "secret") },
      allowedDomains: ["example.com"],
      allowedGroups: ["family", "friends"],
      groupsClaim: "groups",
      scopes: ["openid", "email", "profile", "groups"],
      deviceFlow,
    };
    return open({
      parts: { fetch: between },
      want: {
        listen: { address: "127.0.0.1", port },
        urls: [`https://localhost:${port}`],
        identity: { oidc, passkeys: false },
      },
    });
  }

  function account(name: string, changed: object = {}): string {
    const email = `${name}@example.com`;
    provider.accounts.set(name, {
      email,
      email_verified: true,
      name: `${name} of the test`,
      groups: ["family"],
      ...changed,
    });
    return name;
  }

  /** Up to the address with which the provider sends the person back. */
  async function atProvider(browser: Browser, name: string, to = "/"): Promise<string> {
    return loggedIn(browser, name, await browser.follow(`${site}/sign-in/oidc?to=${encodeURIComponent(to)}`));
  }

  /** Where the provider leads from its page for logging in. */
  async function loggedIn(browser: Browser, name: string, login: Page & { url: string }): Promise<string> {
    const logged = await browser.form(login.url, { prompt: "login", login: name, password: "any" });
    const back = `${site}/sign-in/oidc/back`;
    const consent = await browser.follow(logged.location, back);
    if (consent.location.startsWith(back) || !consent.url.includes("/interaction/")) return consent.location;
    const agreed = await browser.form(consent.url, { prompt: "consent" });
    return (await browser.follow(agreed.location, back)).location;
  }

  async function signIn(browser: Browser, name: string): Promise<Page> {
    return browser.get(await atProvider(browser, name));
  }

  const users = async (): Promise<UserInfo[]> =>
    ((await bench.call("GET", "/api/v1/users")).body as { users: UserInfo[] }).users;

  test(
    "a verified address of an allowed domain and group signs in, as a member, and comes back to where it began",
    LIMIT,
    async () => {
      const browser = new Browser();
      const back = await atProvider(browser, account("anna"), "/device?code=ABCD");
      const signed = await browser.get(back);
      assert.deepEqual([signed.status, signed.location], [303, `${site}/device?code=ABCD`]);
      assert.match((await browser.get(`${site}/`)).text, /anna@example\.com/);
      const anna = (await users()).find(({ login }) => login === "anna@example.com");
      assert.deepEqual([anna?.role, anna?.displayName, anna?.issuer], ["member", "anna of the test", provider.issuer]);
      await signIn(new Browser(), "anna");
      assert.equal((await users()).filter(({ login }) => login === "anna@example.com").length, 1);
    },
  );

  test(
    "a foreign domain, a foreign group and an address nobody has verified are refused, and make no user",
    LIMIT,
    async () => {
      account("berta", { email: "berta@elsewhere.example" });
      account("bruno", { groups: ["strangers"] });
      account("bella", { email_verified: false });
      account("boris", { email: "boris@example.com.evil.example" });
      const known = (await users()).length;
      for (const name of ["berta", "bruno", "bella", "boris"]) {
        const browser = new Browser();
        assert.equal((await signIn(browser, name)).status, 403, name);
        assert.equal((await browser.get(`${site}/`)).status, 302, name);
      }
      assert.equal((await users()).length, known);
    },
  );

  test("an address that somebody else gets later is not the first one's account", LIMIT, async () => {
    await signIn(new Browser(), account("clara"));
    account("impostor", { email: "clara@example.com" });
    assert.equal((await signIn(new Browser(), "impostor")).status, 403);
    const owner = (await bench.call("POST", "/api/v1/users", { login: "carla@example.com", role: "owner" }))
      .body as UserInfo;
    const browser = new Browser();
    await signIn(browser, account("carla"));
    const session = JSON.parse((await browser.get(`${site}/api/v1/session`)).text) as { user: UserInfo };
    assert.deepEqual([session.user.id, session.user.role], [owner.id, "owner"]);
  });

  test(
    "an answer with another state, without its cookie, twice, or with another's code signs nobody in",
    LIMIT,
    async () => {
      account("doris");
      const one = new Browser();
      const back = new URL(await atProvider(one, "doris"));
      const elsewhere = new Browser();
      assert.equal((await elsewhere.get(back.href)).status, 403, "no cookie");
      const altered = new URL(back);
      altered.searchParams.set("state", "another");
      assert.equal((await one.get(altered.href)).status, 403, "another state");
      assert.equal((await one.get(back.href)).status, 403, "its cookie was spent");
      const two = new Browser();
      const again = await atProvider(two, "doris");
      const flow = [...two.cookies];
      assert.equal((await two.get(again)).status, 303);
      const thief = new Browser();
      for (const [name, value] of flow.filter(([key]) => key.endsWith("flow"))) thief.cookies.set(name, value);
      assert.equal((await thief.get(again)).status, 403, "a flow counts once");
      // A code of the attacker's own, planted into a flow of the victim's: PKCE and state tell them apart.
      const [victim, attacker] = [new Browser(), new Browser()];
      const own = new URL(await atProvider(victim, "doris"));
      own.searchParams.set(
        "code",
        new URL(await atProvider(attacker, account("dieter"))).searchParams.get("code") ?? "",
      );
      assert.equal((await victim.get(own.href)).status, 403, "another's code");
    },
  );

  test(
    "a token of another issuer, for another client, with another nonce, expired or forged is refused",
    LIMIT,
    async () => {
      account("erika");
      const lies: Record<string, (claims: JWTPayload) => JWTPayload> = {
        iss: (claims) => ({ ...claims, iss: "https://evil.example" }),
        aud: (claims) => ({ ...claims, aud: "another-client" }),
        nonce: (claims) => ({ ...claims, nonce: "another" }),
        "no nonce": ({ nonce: _, ...claims }) => claims,
        exp: (claims) => ({ ...claims, exp: 1_000_000_000, iat: 999_999_000 }),
        sub: (claims) => ({ ...claims, sub: "anna" }),
      };
      try {
        for (const [what, told] of Object.entries(lies)) {
          lie = told;
          const browser = new Browser();
          assert.equal((await signIn(browser, "erika")).status, 403, what);
          assert.equal((await browser.get(`${site}/`)).status, 302, what);
        }
        isForged = true;
        lie = (claims) => claims;
        assert.equal((await signIn(new Browser(), "erika")).status, 403, "forged");
        isForged = false;
        // The same detour with nothing altered is accepted: it was the lie that was refused.
        lie = (claims) => claims;
        assert.equal((await signIn(new Browser(), "erika")).status, 303);
      } finally {
        lie = undefined;
        isForged = false;
      }
    },
  );

  test("a person who was disabled here does not come in by the provider", LIMIT, async () => {
    const browser = new Browser();
    await signIn(browser, account("fritz"));
    const page = await browser.get(`${site}/`);
    assert.match(fieldOf(page, "csrf"), /^[\w-]{43}$/);
    await bench.call("PATCH", "/api/v1/users/fritz@example.com", { disabled: true });
    assert.equal((await browser.get(`${site}/`)).status, 302);
    assert.equal((await signIn(new Browser(), "fritz")).status, 403);
    await bench.call("PATCH", "/api/v1/users/fritz@example.com", { disabled: false });
    assert.equal((await signIn(new Browser(), "fritz")).status, 303);
  });

  test("where no browser reaches the coordinator, a machine is confirmed at the provider itself", LIMIT, async () => {
    const hidden = await openCoordinator(await freePort(), true);
    try {
      const machine = askingMachine(hidden, "cellar");
      const { url, code } = await machine.shown;
      assert.ok(url.startsWith(provider.issuer), url);
      const browser = new Browser();
      const first = await browser.get(url);
      const second = await browser.form(`${provider.issuer}/device`, { xsrf: fieldOf(first, "xsrf"), user_code: code });
      const fields = { xsrf: fieldOf(second, "xsrf"), user_code: code, confirm: "yes" };
      const confirmed = await browser.form(`${provider.issuer}/device`, fields);
      await loggedIn(browser, account("gustav"), await browser.follow(confirmed.location));
      await machine.done;
      const { users: known } = (await hidden.call("GET", "/api/v1/users")).body as { users: UserInfo[] };
      assert.deepEqual(
        known.map(({ login }) => login),
        ["gustav@example.com"],
      );
    } finally {
      await hidden.close();
    }
  });

  test("a way back that this browser never began, however often, locks nobody out", LIMIT, async () => {
    const browser = new Browser();
    for (let n = 0; n < 30; n++)
      assert.equal((await browser.get(`${site}/sign-in/oidc/back?code=x&state=y`)).status, 403);
    assert.equal((await signIn(browser, account("hanna"))).status, 303);
  });
});
