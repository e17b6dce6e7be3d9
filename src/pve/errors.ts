import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { guestPath, type Need, pveumLines, userOf } from "./permissions.js";

/**
 * Proxmox's errors as Failures. There is no 404 and no 409: the status says 400 (parameters), 401, 403 or 500 (all
 * else), and what happened stands in the reason phrase, so the tables below go by its words. Matched against every
 * error recorded from Proxmox VE 9.2 (test/data/pve-errors.json).
 */
export type Asked = {
  readonly method: string;
  /** Below /api2/json. */
  readonly path: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** user@realm or user@realm!token. */
  readonly login: string;
};
export type Reply = { readonly status: number; readonly reason: string; readonly body: string };

export function replyFailure(asked: Asked, reply: Reply): Failure {
  const { words, errors } = wordsOf(reply);
  const call = `${asked.method} ${asked.path}`;
  if (reply.status === 401) return refusedLogin(asked, words);
  if (reply.status === 403) return refusedPermission(asked, words);
  if (errors.length > 0) return refusedParameters(call, errors);
  if (reply.status >= 595 && reply.status <= 599)
    return new Failure("pve-node-unreachable", `${call}: the host's proxy lost the node: ${reply.status} ${words}`, {
      advice: "check that the PVE node is up, then run the command again",
    });
  const known = KNOWN.find(({ status, match }) => (status ?? 500) === reply.status && match.test(words));
  if (known !== undefined) return failureOf(known, words, asked);
  return new Failure("pve-error", `${call} failed: ${reply.status} ${words}`);
}

/** Why a task did not end well; its words are those of the table too. */
export function taskFailure(task: string, exitStatus: string, log: readonly string[]): Failure {
  const known = [...KNOWN_IN_TASKS, ...KNOWN].find(
    ({ match, status }) => status === undefined && match.test(exitStatus),
  );
  const tail = log.slice(-LOG_TAIL_LINES).map((line) => `\n    ${line}`);
  const said = `task ${task} failed: ${exitStatus}${tail.join("")}`;
  if (known === undefined) return new Failure("task-failed", said);
  return new Failure(known.code, said, { advice: adviceOf(known, exitStatus, undefined) });
}

/** Lines of a task's log that are quoted when it fails. */
export const LOG_TAIL_LINES = 8;

/** A row: words → code. `$1` in message and advice is what the first group caught. */
type Row = {
  readonly match: RegExp;
  readonly code: string;
  /** 500 when left out. */
  readonly status?: number;
  /** Instead of Proxmox's own words. */
  readonly message?: string;
  readonly advice?: string;
};

const KNOWN: readonly Row[] = [
  {
    match: /(?:CT|VM) (\d+) already exists/,
    code: "vmid-taken",
    advice: "run the command again: it takes the next free id",
  },
  {
    match: /Configuration file '[^']*\/(\d+)\.conf' does not exist/,
    code: "container-unknown",
    message: "there is no container $1",
    advice: "exitnode list",
  },
  {
    match: /^storage '([^']+)' does not exist/,
    code: "storage-unknown",
    advice: "exitnode host check <name> lists the storages",
  },
  { match: /^(?:CT|VM) (\d+) already running/, code: "container-running" },
  {
    match: /^unable to destroy CT (\d+) - container is running/,
    code: "container-running",
    advice: "stop container $1 first",
  },
  { match: /overwrite running container/, code: "container-running", advice: "stop the container first" },
  { match: /^(?:CT|VM) (\d+) not running/, code: "container-stopped" },
  {
    match: /CT (\d+) - protection mode enabled/,
    code: "container-protected",
    advice: "on the Proxmox host: pct set $1 --protection 0",
  },
  {
    match: /(?:CT|VM) is locked \(([^)]*)\)/,
    code: "container-locked",
    advice: "wait for the $1 to end; if none is running, on the Proxmox host: pct unlock <vmid>",
  },
  {
    match: /^detected modified configuration/,
    code: "config-changed",
    advice: "run the command again: it reads the config anew",
  },
  {
    match: /^SSH public key validation error/,
    code: "ssh-key-invalid",
    message: "the SSH public key is not one OpenSSH reads",
    advice: "give one line as in ~/.ssh/id_ed25519.pub",
  },
  {
    match: /^Only root can pass arbitrary filesystem paths/,
    code: "template-invalid",
    message: "the template must be named as storage:vztmpl/file.tar.zst",
  },
  {
    match: /^hostname lookup '([^']*)' failed/,
    code: "pve-node-unknown",
    message: 'there is no PVE node "$1"',
    advice: "exitnode host check <name> lists the PVE nodes",
  },
  { match: /^no options specified/, code: "nothing-to-change" },
  {
    match: /^unable to modify read-only option: '([^']+)'/,
    code: "option-read-only",
    advice: "the option can only be set when the container is made",
  },
  {
    match: /^Device (\S+) does not exist/,
    code: "device-missing",
    message: "the Proxmox host has no device $1",
    advice: "on the Proxmox host: modprobe tun",
  },
  { match: /^create role failed: role '([^']+)' already exists/, code: "role-exists" },
  { match: /^create user failed: user '([^']+)' already exists/, code: "user-exists" },
  { match: /role '([^']+)' does not exist/, code: "role-unknown", advice: "on the Proxmox host: pveum role list" },
  {
    match: /user '([^']+)' does not exist|no such user \('([^']+)'\)/,
    code: "user-unknown",
    advice: "on the Proxmox host: pveum user list",
  },
  { match: /^no such token '([^']+)' for user/, code: "token-unknown" },
  { match: /snapshot name '([^']+)' \(reserved name\)/, code: "snapshot-name-invalid" },
  {
    match: /^storage '([^']+)' does not support '([^']+)' content/,
    code: "storage-content-refused",
    advice: "on the Proxmox host: pvesm set $1 --content …,$2",
  },
  { match: /^unable to shrink disk size/, code: "disk-shrink-refused" },
  {
    match: /got timeout|[Tt]imeout while waiting|can't lock file/,
    code: "host-busy",
    advice: "wait for other tasks on the host to end, then run the command again",
  },
  {
    match: /unable to parse directory volume name '([^']+)'/,
    code: "volume-broken",
    advice: "the config names a volume that was never made: on the Proxmox host, set rootfs back to the old volume",
  },
  { match: /at character offset \d+/, code: "request-malformed" },
  { match: /^Bad Request/, code: "request-malformed", status: 400 },
  { match: /too large/, code: "request-too-large", status: 501 },
  {
    match: /not implemented|not available|not supported|Unexpected content/,
    code: "call-unknown",
    status: 501,
    advice: "exitnode host check <name>: Proxmox VE 8.4 or newer is needed",
  },
  { match: /Content-Type/, code: "request-malformed", status: 506 },
];

const KNOWN_IN_TASKS: readonly Row[] = [
  {
    match: /volume '([^']+:vztmpl\/[^']+)' does not exist/,
    code: "template-missing",
    advice: "exitnode appliance upload",
  },
  {
    match: /^checksum mismatch/,
    code: "checksum-mismatch",
    advice: "the file was changed on its way: upload it again",
  },
  {
    match: /not enough space|No space left|image size is too large|out of space|insufficient free space/i,
    code: "storage-full",
    advice: "free some space on the storage, or choose another one with --storage",
  },
  { match: /snapshot name '([^']+)' already used/, code: "snapshot-exists" },
  { match: /snapshot '([^']+)' does not exist/, code: "snapshot-unknown" },
  {
    match: /snapshot feature is not available/,
    code: "snapshot-unsupported",
    advice: "use a storage with snapshots (ZFS, LVM-thin, Btrfs), or a backup",
  },
  {
    match: /can't use storage '([^']+)' for backups|wrong content type/,
    code: "storage-content-refused",
    advice: "on the Proxmox host: pvesm set $1 --content …,backup",
  },
  { match: /^job errors/, code: "backup-failed" },
  { match: /refusing to override existing file/, code: "template-exists" },
  { match: /^download failed/, code: "download-failed" },
  { match: /cannot remove protected volume/, code: "volume-protected" },
  { match: /you can't start a CT if it's a template/, code: "container-is-template" },
  { match: /received interrupt/, code: "task-cancelled" },
  {
    match: /Permission check failed/,
    code: "permission-missing",
    advice: "exitnode host check <name> says which privileges are missing",
  },
  {
    match: /bridge '([^']+)' does not exist/,
    code: "bridge-unknown",
    advice: "exitnode host check <name> lists the bridges",
  },
];

function failureOf(row: Row, words: string, asked: Asked): Failure {
  const message = row.message === undefined ? `${asked.method} ${asked.path}: ${words}` : fill(row.message, row, words);
  return new Failure(row.code, message, { advice: adviceOf(row, words, asked) });
}

function adviceOf(row: Row, words: string, asked: Asked | undefined): string | undefined {
  const vmid = /\/lxc\/(\d+)/.exec(asked?.path ?? "")?.[1];
  const advice = row.advice === undefined ? undefined : fill(row.advice, row, words);
  return vmid === undefined ? advice : advice?.replace("<vmid>", vmid);
}

function fill(template: string, { match }: Row, words: string): string {
  const caught = match.exec(words);
  return template.replace(/\$(\d)/g, (_, group: string) => caught?.[Number(group)] ?? "");
}

function wordsOf(reply: Reply): { words: string; errors: [string, string][] } {
  const fallback = (reply.reason || reply.body).trim();
  const body = tryJson(reply.body);
  if (typeof body !== "object" || body === null) return { words: fallback, errors: [] };
  const errors = "errors" in body && typeof body.errors === "object" && body.errors !== null ? body.errors : {};
  // An HTTP/2 proxy in front drops the reason phrase: the message in the body says the same.
  const message = "message" in body && typeof body.message === "string" ? body.message.trim() : "";
  return {
    words: fallback || message,
    errors: Object.entries(errors).map(([name, said]) => [
      name,
      String(said)
        .trim()
        .replace(/\s*\n\s*/g, "; "),
    ]),
  };
}

function refusedLogin({ login, path }: Asked, words: string): Failure {
  if (/csrf/i.test(words))
    return new Failure("csrf-refused", `the host refused the login's CSRF token: ${words}`, {
      advice: "run the command again",
    });
  const token = login.includes("!");
  const kind = path === "/access/ticket" || !token ? "user name or password" : "token id or secret";
  return new Failure("login-refused", `the host refused ${login}: ${words} (wrong ${kind}, expired or disabled)`, {
    advice: token
      ? `exitnode host add <name> --url … --token '${login}' with the right secret; a new one, on the Proxmox host:\npveum user token add ${userOf(login)} <id> --privsep 1`
      : `exitnode host add <name> --url … --user ${login} with the right password`,
  });
}

function refusedPermission(asked: Asked, words: string): Failure {
  const inside = /^(?:\d+ )?Permission check failed \((.*)\)$/s.exec(words)?.[1];
  const only = /^(.*) is only allowed for root@pam/.exec(inside ?? "")?.[1];
  if (only !== undefined)
    return new Failure(
      "root-only",
      `${only} is only allowed for root@pam logged in with a password, not for ${asked.login}`,
      {
        advice: "add the host with --user root@pam, or do it in the Proxmox host's shell with pct set",
      },
    );
  const pool = /^pool '([^']+)' does not exist/.exec(inside ?? "")?.[1];
  if (pool !== undefined)
    return new Failure("pool-unknown", `there is no pool "${pool}" on the host`, {
      advice: `on the Proxmox host: pveum pool add ${pool}`,
    });
  const need = needIn(inside) ?? (inside === undefined ? allocateNeed(asked) : undefined);
  if (need === undefined)
    return new Failure("permission-missing", `${asked.login} may not ${asked.method} ${asked.path}: ${words}`);
  const lines = pveumLines(asked.login, [need]);
  return new Failure(
    "permission-missing",
    `${asked.login} lacks ${need.anyOf.join(" or ")} on ${need.path} (${asked.method} ${asked.path})`,
    {
      advice: ["on the Proxmox host, as root:", ...lines].join("\n"),
    },
  );
}

/** "/storage/nosuch, Datastore.AllocateSpace" or "/vms/1, A|B". */
function needIn(inside: string | undefined): Need | undefined {
  const [, path, privs] = /^(\/[^,]*), ([A-Za-z.|]+)$/.exec(inside ?? "") ?? [];
  if (path === undefined || privs === undefined) return undefined;
  return { path: path.replace(/^\/vms\/\d+$/, "/vms"), anyOf: privs.split("|"), purpose: "" };
}

/** At a create, Proxmox says neither path nor privilege: it is VM.Allocate, on the pool when one was named. */
function allocateNeed({ method, path, params }: Asked): Need | undefined {
  if (method !== "POST" || !/\/(?:lxc|clone)$/.test(path)) return undefined;
  const pool = params.pool;
  return { path: guestPath(typeof pool === "string" ? pool : undefined), anyOf: ["VM.Allocate"], purpose: "" };
}

function refusedParameters(call: string, errors: readonly [string, string][]): Failure {
  const said = errors.map(([name, text]) => `${name}: ${text}`).join("; ");
  const code = PARAMETER_CODES.find(([name, match]) =>
    errors.some(([one, text]) => one === name && match.test(text)),
  )?.[2];
  return new Failure(code ?? "parameters-refused", `${call} was refused: ${said}`);
}

const PARAMETER_CODES: readonly [string, RegExp, string][] = [
  ["vmid", /already exists/, "vmid-taken"],
  ["tokenid", /already exists/, "token-exists"],
  ["upid", /no such task/, "task-unknown"],
  ["upid", /unable to parse/, "upid-invalid"],
  ["skiplock", /Only root/, "root-only"],
];
