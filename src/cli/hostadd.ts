import { Failure } from "../kit/failure.js";
import { applyAccess, describeAccess, planAccess } from "../pve/bootstrap.js";
import { connectPve } from "../pve/client.js";
import type { PveHost } from "../pve/guests.js";
import { type Https, openHttps } from "../sys/https.js";
import { type Prompt, secretFromStdin, terminalPrompt } from "../sys/prompt.js";
import type { Call, Outcome, Parts } from "./command.js";
import { hostEntry, readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";

/** Keeps a Proxmox host in the config once its certificate is confirmed and its login works. */
export type HostAddWorld = {
  readonly https: Https;
  /** Undefined without a terminal: what was not given is then an error instead of a question. */
  readonly prompt: Prompt | undefined;
  readonly secretFromStdin: () => Promise<string>;
};

export async function hostAdd(call: Call): Promise<Outcome> {
  const prompt = call.parts.interactive ? terminalPrompt(call.signal) : undefined;
  const https = openHttps();
  try {
    return await addHost(call, { https, prompt, secretFromStdin });
  } finally {
    https.close();
  }
}

export async function addHost(call: Call, world: HostAddWorld): Promise<Outcome> {
  const { parts, options, signal } = call;
  const name = call.args[0] ?? "";
  if (!NAME.test(name))
    throw new Failure("usage", `a host's name is small letters, digits and hyphens such as pve1, got "${name}"`);
  const given = wanted(options);
  const url = hostUrl(given.url ?? (await asked(world, "--url").text("Where is the Proxmox host?", URL_QUESTION)));
  const login = given.login ?? (await askLogin(world));
  if (given.makeToken && login.includes("!"))
    throw new Failure("usage", "--make-token needs --user root@pam: a token cannot make tokens");
  checkLogin(login);
  const fingerprint = await confirmFingerprint(call, world, name, url, given.fingerprint);
  const secret = await secretFor(parts, world, login, options.secretStdin === true);
  const pve = connectPve({ https: world.https, clock: parts.clock }, { url, fingerprint, login, secret, signal });
  const { version } = await pve.version();
  const pveNode = await choosePveNode(pve, world, given.pveNode);
  const kept = given.makeToken ? await makeToken(pve, parts, pveNode, given.pool) : { login, secret };
  const replaced = await keep(parts, name, { url, fingerprint, pveNode, login: kept.login }, kept.secret, given.pool);
  return {
    value: { name, url, fingerprint, login: kept.login, pveNode, version, replaced },
    text: `${replaced ? "replaced" : "added"} ${name}: Proxmox VE ${version} at ${url}, PVE node ${pveNode}, as ${kept.login}
next: exitnode host check ${name}`,
  };
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const URL_QUESTION = { example: "https://192.168.1.10:8006", check: urlProblem };

type Wanted = {
  readonly url: string | undefined;
  readonly login: string | undefined;
  readonly fingerprint: string | undefined;
  readonly pveNode: string | undefined;
  readonly pool: string | undefined;
  readonly makeToken: boolean;
};

function wanted(options: Call["options"]): Wanted {
  const text = (name: string): string | undefined => {
    const value = options[name];
    return typeof value === "string" ? value : undefined;
  };
  const token = text("token");
  const user = text("user");
  if (token !== undefined && user !== undefined) throw new Failure("usage", "expected --token or --user, got both");
  if (token !== undefined && !token.includes("!"))
    throw new Failure("usage", `expected --token user@realm!id, got "${token}" without an id`);
  if (user?.includes("!"))
    throw new Failure("usage", `expected --user user@realm, got the token "${user}": use --token`);
  const login = token ?? user;
  const makeToken = options.makeToken === true;
  return {
    url: text("url"),
    login,
    fingerprint: text("fingerprint"),
    pveNode: text("pveNode"),
    pool: text("pool"),
    makeToken,
  };
}

function asked(world: HostAddWorld, option: string): Prompt {
  if (world.prompt === undefined) throw new Failure("usage", `expected ${option}: there is no terminal to ask on`);
  return world.prompt;
}

function urlProblem(text: string): string | undefined {
  try {
    hostUrl(text);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** "192.168.1.10" → "https://192.168.1.10:8006"; a port that is given stays, also 443. */
export function hostUrl(text: string): string {
  const whole = /^[a-z]+:\/\//i.test(text) ? text : `https://${text}`;
  const bad = (): Failure =>
    new Failure("url-invalid", `expected a URL such as https://192.168.1.10:8006, got "${text}"`);
  if (!URL.canParse(whole)) throw bad();
  const url = new URL(whole);
  if (url.protocol !== "https:" || url.username !== "" || url.hostname === "") throw bad();
  const port = /^https:\/\/[^/]*:(\d+)(?:\/|$)/i.exec(whole)?.[1] ?? "8006";
  return `https://${url.hostname}:${port}`;
}

async function askLogin(world: HostAddWorld): Promise<string> {
  const prompt = asked(world, "--token or --user");
  const way = await prompt.choose("How do you log in?", [
    { value: "token", label: "with an API token (recommended)" },
    { value: "user", label: "with a user's password" },
  ]);
  return way === "token"
    ? prompt.text("Token id?", {
        example: "exitnode@pve!cli",
        check: (id) => (id.includes("!") ? undefined : "as user@realm!id"),
      })
    : prompt.text("User?", { example: "root@pam" });
}

function checkLogin(login: string): void {
  if (!hostEntry.shape.login.safeParse(login).success)
    throw new Failure("usage", `expected user@realm or user@realm!token, got "${login}"`);
}

async function confirmFingerprint(
  call: Call,
  world: HostAddWorld,
  name: string,
  url: string,
  given: string | undefined,
): Promise<string> {
  const pinned = given?.toUpperCase();
  if (pinned !== undefined && !hostEntry.shape.fingerprint.safeParse(pinned).success)
    throw new Failure("usage", `expected --fingerprint as 32 hex pairs with colons, got "${given}"`);
  // With a pin, the connection itself compares; there is no need to look first.
  if (pinned !== undefined) return pinned;
  const seen = await world.https.peerFingerprint(url, { signal: call.signal });
  call.parts.say(`${url} shows a certificate with the SHA-256 fingerprint\n  ${seen}\n${WHERE_TO_COMPARE}`);
  if (call.options.yes === true) return seen;
  if (world.prompt === undefined)
    throw new Failure("fingerprint-unconfirmed", `nobody confirmed that ${seen} is the certificate of ${url}`, {
      advice: `compare it on the host, then: exitnode host add ${name} --url ${url} --fingerprint ${seen}`,
    });
  if (await world.prompt.confirm("Is it the same?")) return seen;
  throw new Failure("fingerprint-mismatch", `the certificate of ${url} was not confirmed; nothing was sent or kept`);
}

const WHERE_TO_COMPARE =
  "Compare it in the Proxmox GUI (node → System → Certificates), or on the host:\n" +
  "  openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem";

async function secretFor(parts: Parts, world: HostAddWorld, login: string, fromStdin: boolean): Promise<string> {
  if (fromStdin) return world.secretFromStdin();
  const set = parts.env.EXITNODE_SECRET;
  if (set) return set;
  const kind = login.includes("!") ? "secret of the token" : "password of";
  if (world.prompt !== undefined) return world.prompt.secret(`The ${kind} ${login}?`);
  throw new Failure("secret-missing", `the ${kind} ${login} is needed, and there is no terminal to ask on`, {
    advice: "give it as one line on stdin with --secret-stdin, or in EXITNODE_SECRET",
  });
}

async function choosePveNode(pve: PveHost, world: HostAddWorld, given: string | undefined): Promise<string> {
  const nodes = await pve.nodes();
  const names = nodes.map(({ name }) => name);
  if (given !== undefined) {
    if (names.includes(given)) return given;
    throw new Failure("pve-node-unknown", `there is no PVE node "${given}": expected one of ${names.join(", ")}`);
  }
  const [first, ...others] = names;
  if (first === undefined) throw new Failure("pve-node-unknown", "the host names no PVE node");
  if (others.length === 0) return first;
  if (world.prompt === undefined)
    throw new Failure("usage", `expected --pve-node with one of ${names.join(", ")}: the host is in a cluster`);
  return world.prompt.choose(
    "Which PVE node?",
    nodes.map(({ name, online }) => ({ value: name, label: online ? name : `${name} (offline)` })),
  );
}

async function makeToken(
  pve: PveHost,
  parts: Parts,
  node: string,
  pool: string | undefined,
): Promise<{ login: string; secret: string }> {
  const storages = (await pve.storages(node)).filter(
    ({ content }) => content.includes("rootdir") || content.includes("vztmpl"),
  );
  const bridges = await pve.bridges(node);
  const steps = await planAccess(pve, { nodes: [node], storages: storages.map(({ id }) => id), bridges, pool });
  const { tokenId, secret } = await applyAccess(pve, steps, (step) => parts.say(describeAccess(step)));
  return { login: tokenId, secret };
}

/** The secret first: interrupted in between, the config names no host that cannot log in. */
async function keep(
  { files, paths }: Parts,
  name: string,
  entry: { url: string; fingerprint: string; pveNode: string; login: string },
  secret: string,
  pool: string | undefined,
): Promise<boolean> {
  const credentials = await readCredentials(files, paths.config);
  await writeCredentials(files, paths.config, { ...credentials, hosts: { ...credentials.hosts, [name]: { secret } } });
  const config = await readConfig(files, paths.config);
  const before = Object.hasOwn(config.hosts, name) ? config.hosts[name] : undefined;
  const defaults = { ...before?.defaults, ...(pool === undefined ? {} : { pool }) };
  await writeConfig(files, paths.config, { ...config, hosts: { ...config.hosts, [name]: { ...entry, defaults } } });
  return before !== undefined;
}
