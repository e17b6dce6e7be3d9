import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as z from "zod";
import { openBench } from "../coordinator/bench.js";
import { Browser, fieldOf } from "../coordinator/browser.js";
import { CLIENT, openProvider } from "../coordinator/identityprovider.js";

/**
 * A coordinator and a real OpenID Connect provider that confirms machines itself, in a place of their own:
 * node loginnetwork.js ADDRESS. A line on stdout says where they are; then a line on stdin is a request and a line on
 * stdout its answer, in turn; ours begin with "= ", as the provider talks too. The end of stdin stops it.
 */
const request = z.discriminatedUnion("do", [
  /** A person opens the address that a machine shows, types its code there, and logs in. */
  z.object({ do: z.literal("confirm"), url: z.string(), code: z.string(), login: z.string() }),
  z.object({ do: z.literal("call"), method: z.string(), path: z.string(), body: z.unknown().optional() }),
  /** The coordinator's clock goes forward. */
  z.object({ do: z.literal("advance"), ms: z.number() }),
]);

const PORT = 8_443;
const [address = ""] = process.argv.slice(2);
const folder = await mkdtemp(join(tmpdir(), "exn-ky-login-"));
const provider = await openProvider(folder, `https://${address}:${PORT}/sign-in/oidc/back`);
for (const [name, domain] of [
  ["anna", "example.com"],
  ["mallory", "elsewhere.example"],
] as const)
  provider.accounts.set(name, { email: `${name}@${domain}`, email_verified: true, name, groups: [] });
await writeFile(join(folder, "secret"), `${CLIENT.secret}\n`, { mode: 0o600 });
const { issuer } = provider;
const oidc = {
  ...{ issuer, clientId: CLIENT.id, clientSecretFile: join(folder, "secret"), allowedDomains: ["example.com"] },
  ...{ groupsClaim: "groups", scopes: ["openid", "email", "profile"], deviceFlow: true },
};
const bench = await openBench({
  parts: { fetch: provider.fetch },
  want: {
    listen: { address: "0.0.0.0", port: PORT },
    urls: [`https://${address}:${PORT}`],
    identity: { oidc, passkeys: false },
  },
});

async function confirm(url: string, code: string, login: string): Promise<number> {
  const browser = new Browser();
  const typed = await browser.form(`${issuer}/device`, {
    xsrf: fieldOf(await browser.get(url), "xsrf"),
    user_code: code,
  });
  const fields = { xsrf: fieldOf(typed, "xsrf"), user_code: code, confirm: "yes" };
  const asked = await browser.follow((await browser.form(`${issuer}/device`, fields)).location);
  const logged = await browser.form(asked.url, { prompt: "login", login, password: "any" });
  const consent = await browser.follow(logged.location);
  if (!consent.url.includes("/interaction/")) return consent.status;
  return (await browser.follow((await browser.form(consent.url, { prompt: "consent" })).location)).status;
}

async function answer(line: string): Promise<unknown> {
  const asked = request.parse(JSON.parse(line));
  switch (asked.do) {
    case "confirm":
      return confirm(asked.url, asked.code, asked.login);
    case "call":
      return (await bench.call(asked.method, asked.path, asked.body)).body;
    case "advance":
      return bench.advance(asked.ms);
  }
}

const lines = createInterface({ input: process.stdin });
let last: Promise<unknown> = Promise.resolve();
lines.on("line", (line) => {
  last = last.then(async () => process.stdout.write(`= ${JSON.stringify((await answer(line)) ?? null)}\n`));
});
lines.once("close", () => {
  void last
    .then(() => bench.close())
    .then(() => provider.close())
    .then(() => rm(folder, { recursive: true, force: true }))
    .finally(() => process.exit());
});
const { publicKey } = bench.coordinator;
process.stdout.write(
  `= ${JSON.stringify({ url: `https://${address}:${PORT}`, publicKey, issuer, folder: bench.folder })}\n`,
);
