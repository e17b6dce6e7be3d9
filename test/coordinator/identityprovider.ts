import { generateKeyPairSync } from "node:crypto";
import { createServer, request } from "node:https";
import Provider from "oidc-provider";
import { localFiles } from "../../src/sys/files.js";
import { keepTlsIdentity } from "../../src/sys/tls.js";
import { freePort } from "./freeport.js";

/** A real OpenID Connect provider over HTTPS on loopback, with accounts of the test's choice. */
export type Account = {
  readonly email: string;
  readonly email_verified: boolean;
  readonly name: string;
  readonly groups: readonly string[];
};

export type IdentityProvider = {
  readonly issuer: string;
  /** Trusts this provider's certificate, and no other. */
  readonly fetch: typeof fetch;
  /** Accounts by the name they log in with. */
  readonly accounts: Map<string, Account>;
  close(): Promise<void>;
};

export const CLIENT = { id: "exitnode-test", secret: "a-secret-of-the-test-alone" } as const;

export async function openProvider(folder: string, returnUrl: string): Promise<IdentityProvider> {
  const port = await freePort();
  const issuer = `https://localhost:${port}`;
  const accounts = new Map<string, Account>();
  const grants = ["authorization_code", "urn:ietf:params:oauth:grant-type:device_code"];
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: [returnUrl],
        grant_types: grants,
        response_types: ["code"],
      },
    ],
    cookies: { keys: ["of-the-test"] },
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), use: "sig", alg: "RS256" }] },
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"], groups: ["groups"] },
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_: unknown, id: string) => ({ accountId: id, claims: () => ({ sub: id, ...accounts.get(id) }) }),
  });
  const identity = await keepTlsIdentity(
    localFiles,
    { key: `${folder}/provider.key`, certificate: `${folder}/provider.crt` },
    ["localhost"],
    Date.now(),
  );
  const server = createServer({ key: identity.key, cert: identity.certificate }, provider.callback());
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    issuer,
    accounts,
    fetch: fetchTrusting(identity.certificate),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** fetch() for one authority: Node's own takes none but from a file at its start. */
const fetchTrusting =
  (ca: string): typeof fetch =>
  async (input, options = {}) => {
    const asked = new Request(input instanceof Request ? input.url : String(input), options);
    const body = Buffer.from(await asked.arrayBuffer());
    return new Promise((resolve, reject) => {
      const outgoing = request(
        asked.url,
        { ca, agent: false, family: 4, method: asked.method, headers: Object.fromEntries(asked.headers) },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
          incoming.on("end", () => {
            const headers = new Headers();
            for (const [name, value] of Object.entries(incoming.headers)) headers.set(name, String(value));
            const status = incoming.statusCode ?? 0;
            resolve(new Response(status === 204 ? null : Buffer.concat(chunks), { status, headers }));
          });
        },
      );
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  };
