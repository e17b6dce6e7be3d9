import { asFailure, Failure } from "../kit/failure.js";
import { connectPve } from "../pve/client.js";
import { unreachableHost } from "../pve/errors.js";
import type { PveHost } from "../pve/guests.js";
import { type Https, openHttps } from "../sys/https.js";
import { type Prompt, secretFromStdin, terminalPrompt } from "../sys/prompt.js";
import type { Call, Outcome, Parts } from "./command.js";
import { type HostEntry, hostEntry, readConfig, readCredentials, writeConfig, writeCredentials } from "./config.js";
import { applyBootstrap, bootstrapLines, planBootstrap } from "./hostbootstrap.js";
import { loginToMachine } from "./machinelogin.js";

/** Keeps a Proxmox host in the config once its certificate is confirmed and its login works. */
export type HostAddWorld = {
  readonly https: Https;
  /** Undefined without a terminal: what was not given is then an error instead of a question. */
  readonly prompt: Prompt | undefined;
  readonly secretFromStdin: () => Promise<string>;
  /** By login, what was told already: nobody is asked for it twice. */
  readonly secrets?: Map<string, string>;
};

export async function hostAdd(call: Call, secrets = new Map<string, string>()): Promise<Outcome> {
  const prompt = call.parts.interactive ? terminalPrompt(call.signal) : undefined;
  const https = openHttps();
  try {
    return await addHost(call, { https, prompt, secretFromStdin, secrets });
  } finally {
    https.close();
  }
}

export async function addHost(call: Call, world: HostAddWorld): Promise<Outcome> {
  const { parts, options } = call;
  const name = call.args[0] ?? "";
  if (!NAME.test(name))
    throw new Failure("usage", `a host's name is small letters, digits and hyphens such as pve1, got "${name}"`);
  const { hosts } = await readConfig(parts.files, parts.paths.config);
  const known = Object.hasOwn(hosts, name) ? hosts[name] : undefined;
  const given = wanted(options);
  if (known !== undefined && given.onlyJump) return addJump(call, name, known);
  // A host that is kept already needs no URL again, and its certificate is pinned.
  const same = given.url === undefined ? known : undefined;
  const url =
    same?.url ?? hostUrl(given.url ?? (await asked(world, "--url").text("Where is the Proxmox host?", URL_QUESTION)));
  if (given.bootstrap && given.login?.includes("!"))
    throw new Failure("usage", "--bootstrap needs a user such as root@pam: a token cannot make tokens");
  // A question is for later: a wrong address shows first.
  if (given.login === undefined) asked(world, "--bootstrap, --token or --user");
  else checkLogin(given.login);
  const fingerprint = await confirmFingerprint(call, world, name, url, given.fingerprint ?? same?.fingerprint);
  const { login, bootstrap: bootstraps } =
    given.login === undefined ? await askLogin(world, options.keepRoot === true) : { ...given, login: given.login };
  checkLogin(login);
  const { pve, secret, version } = await logIn(call, world, { name, url, fingerprint, login });
  const pveNode = await choosePveNode(pve, world, given.pveNode ?? same?.pveNode);
  const wishedPool = given.pool ?? known?.defaults.pool;
  const bootstrap = bootstraps ? await planBootstrap(pve, pveNode, wishedPool) : undefined;
  if (bootstrap !== undefined && options.dryRun === true) return bootstrapLines(name, bootstrap);
  const ssh = await jumpOf(call, known);
  const kept = bootstrap === undefined ? { login, secret } : await applyBootstrap(call, world.prompt, pve, bootstrap);
  const pool = bootstrap === undefined ? given.pool : bootstrap.pool;
  const entry = { url, fingerprint, pveNode, login: kept.login, ...(ssh === undefined ? {} : { ssh }) };
  const replaced = await keep(parts, name, entry, kept.secret, pool);
  return {
    value: { name, url, fingerprint, login: kept.login, pveNode, version, replaced },
    text: `${replaced ? "replaced" : "added"} ${name}: Proxmox VE ${version} at ${url}, PVE node ${pveNode}, as ${kept.login}
next: exitnode host check ${name}`,
  };
}

/** Somebody at a terminal who mistypes a password has answered everything else already: it alone is asked for again. */
const SECRET_TRIES_MAX = 3;

async function logIn(
  { parts, options, signal }: Call,
  world: HostAddWorld,
  at: { readonly name: string; readonly url: string; readonly fingerprint: string; readonly login: string },
): Promise<{ pve: PveHost; secret: string; version: string }> {
  const fromStdin = options.secretStdin === true || options.passwordStdin === true;
  const isAsked = world.prompt !== undefined && !fromStdin && !parts.env.EXITNODE_SECRET;
  const secondFactor = secondFactorOf(parts, world);
  for (let tries = 1; ; tries++) {
    const secret = await secretFor(parts, world, at.login, fromStdin);
    const pve = connectPve({ https: world.https, clock: parts.clock }, { ...at, secret, secondFactor, signal });
    try {
      return { pve, secret, version: (await pve.version()).version };
    } catch (error) {
      const { code, message } = asFailure(error);
      if (code !== "login-refused" || !isAsked || tries === SECRET_TRIES_MAX) throw error;
      world.secrets?.delete(at.login);
      parts.say(message);
    }
  }
}

/** The jump host is entered before its name is kept: its key is confirmed, and ours is let in. */
async function jumpOf(call: Call, known: HostEntry | undefined): Promise<HostEntry["ssh"]> {
  const { sshJump, sshHostKey } = call.options;
  if (typeof sshJump !== "string") return known?.ssh;
  (await loginToMachine({ ...call, options: { ssh: sshJump, hostKey: sshHostKey } }, "--ssh-jump")).ssh.close();
  return { jump: sshJump };
}

async function addJump(call: Call, name: string, known: HostEntry): Promise<Outcome> {
  const { files, paths } = call.parts;
  const ssh = await jumpOf(call, known);
  const config = await readConfig(files, paths.config);
  await writeConfig(files, paths.config, {
    ...config,
    hosts: { ...config.hosts, [name]: { ...known, ...(ssh === undefined ? {} : { ssh }) } },
  });
  const jump = ssh?.jump ?? "";
  return {
    value: { name, jump },
    text: `${name}: containers that cannot be reached from here are reached through ${jump}`,
  };
}

/** The code of the moment, from the environment or the person; it is no secret for longer than half a minute. */
function secondFactorOf({ env }: Parts, { prompt }: HostAddWorld): (() => Promise<string>) | undefined {
  const set = env.EXITNODE_TOTP;
  if (set) return async () => set;
  return prompt === undefined ? undefined : () => prompt.secret("The code of the second factor (TOTP)?");
}

const NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const URL_QUESTION = { example: "https://192.168.1.10:8006", check: urlProblem };

/** Whoever is not named otherwise makes the token. */
const ROOT = "root@pam";

type Wanted = {
  readonly url: string | undefined;
  readonly login: string | undefined;
  readonly fingerprint: string | undefined;
  readonly pveNode: string | undefined;
  readonly pool: string | undefined;
  readonly bootstrap: boolean;
  readonly onlyJump: boolean;
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
  const bootstrap = options.bootstrap === true;
  if (options.dryRun === true && !bootstrap) throw new Failure("usage", "--dry-run is there with --bootstrap");
  const url = text("url");
  return {
    url,
    login: login ?? (bootstrap ? ROOT : undefined),
    fingerprint: text("fingerprint"),
    pveNode: text("pveNode"),
    pool: text("pool"),
    bootstrap,
    onlyJump: text("sshJump") !== undefined && url === undefined && login === undefined && !bootstrap,
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
    new Failure("url-invalid", `expected a URL such as https://192.168.1.10:8006, got "${text}"`, {
      advice: "give --url as the browser shows it with Proxmox VE's GUI",
    });
  if (!URL.canParse(whole)) throw bad();
  const url = new URL(whole);
  if (url.protocol !== "https:" || url.username !== "" || url.hostname === "") throw bad();
  const port = /^https:\/\/[^/]*:(\d+)(?:\/|$)/i.exec(whole)?.[1] ?? "8006";
  return `https://${url.hostname}:${port}`;
}

async function askLogin(world: HostAddWorld, keepRoot: boolean): Promise<{ login: string; bootstrap: boolean }> {
  const prompt = asked(world, "--bootstrap, --token or --user");
  const once = keepRoot ? "its password is kept here" : "makes a token that may do little, forgets the password";
  const way = await prompt.choose("How do you log in?", [
    { value: "root", label: `as ${ROOT}: ${once}` },
    { value: "token", label: "with an API token that is there already" },
    { value: "user", label: "as another user, whose password is kept here" },
  ]);
  if (way === "root") return { login: ROOT, bootstrap: !keepRoot };
  const login = await (way === "token"
    ? prompt.text("Token id?", {
        example: "exitnode@pve!cli",
        check: (id) => (id.includes("!") ? undefined : "as user@realm!id"),
      })
    : prompt.text("User?", { example: "admin@pve" }));
  return { login, bootstrap: false };
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
  const seen = await world.https
    .peerFingerprint(url, { signal: call.signal })
    .catch((error: unknown) => unreachableHost(error, url));
  call.parts.say(`${url} shows a certificate with the SHA-256 fingerprint\n  ${seen}\n${WHERE_TO_COMPARE}`);
  if (call.options.yes === true) return seen;
  if (world.prompt === undefined)
    throw new Failure("fingerprint-unconfirmed", `nobody confirmed that ${seen} is the certificate of ${url}`, {
      advice: `compare it on the host, then: exitnode host add ${name} --url ${url} --fingerprint ${seen}`,
    });
  if (await world.prompt.confirm("Is it the same?")) return seen;
  throw new Failure("fingerprint-mismatch", `the certificate of ${url} was not confirmed; nothing was sent or kept`, {
    advice: `once you know it: exitnode host add ${name} --url ${url} --fingerprint FINGERPRINT`,
  });
}

const WHERE_TO_COMPARE =
  "Compare it in the Proxmox GUI (node → System → Certificates), or on the host:\n" +
  "  openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem";

async function secretFor(parts: Parts, world: HostAddWorld, login: string, fromStdin: boolean): Promise<string> {
  const secret = world.secrets?.get(login) ?? (await askSecret(parts, world, login, fromStdin));
  world.secrets?.set(login, secret);
  return secret;
}

async function askSecret(parts: Parts, world: HostAddWorld, login: string, fromStdin: boolean): Promise<string> {
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
    throw new Failure("pve-node-unknown", `there is no PVE node "${given}": expected one of ${names.join(", ")}`, {
      advice: `add --pve-node ${names[0] ?? "NODE"}, or leave it out`,
    });
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

/** The secret first: interrupted in between, the config names no host that cannot log in. */
async function keep(
  { files, paths }: Parts,
  name: string,
  entry: Omit<HostEntry, "defaults">,
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
