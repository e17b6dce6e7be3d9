import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { KNOWN, KNOWN_IN_TASKS, type Row } from "./errortable.js";
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
  readonly url?: string;
};
export type Reply = { readonly status: number; readonly reason: string; readonly body: string };

/** Nobody answered at the URL: thrown again, with what to look at. */
export function unreachableHost(error: unknown, url: string): never {
  if (!(error instanceof Failure) || error.code !== "unreachable") throw error;
  throw new Failure(error.code, error.message, {
    advice: `is the host up, and the URL right? a browser should show Proxmox VE at ${url}`,
    cause: error,
  });
}

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
  return new Failure("pve-error", `${call} failed: ${reply.status} ${words}`, { advice: CHECK });
}

const CHECK = "exitnode host check <name>";

/** The failure with the host's name in the commands that it advises. */
export function namingHost(failure: Failure, name: string | undefined): Failure {
  if (name === undefined || failure.advice?.includes("<name>") !== true) return failure;
  const advice = failure.advice.replaceAll("<name>", name);
  return new Failure(failure.code, failure.message, { advice, cause: failure.cause });
}

/** Why a task did not end well; its words are those of the table too. */
export function taskFailure(task: string, exitStatus: string, log: readonly string[]): Failure {
  const causes = [...causesIn(log), exitStatus];
  const rows = [...KNOWN_IN_TASKS, ...KNOWN].filter(({ status }) => status === undefined);
  const [known, cause = exitStatus] = causes
    .map((words) => [rows.find(({ match }) => match.test(words)), words] as const)
    .find(([row]) => row !== undefined) ?? [undefined];
  const tail = log.slice(-LOG_TAIL_LINES).map((line) => `\n    ${line}`);
  const said = `task ${task} failed: ${exitStatus}${tail.join("")}`;
  if (known === undefined)
    return new Failure("task-failed", said, { advice: "the task's whole log is in the Proxmox GUI, below: Tasks" });
  return new Failure(known.code, said, { advice: adviceOf(known, cause, undefined) });
}

/**
 * What the log says that the exit status keeps to itself: a backup job ends "job errors" whatever happened, and
 * an archive that did not fit ends with tar's exit code.
 */
function causesIn(log: readonly string[]): string[] {
  return log.flatMap((line) => {
    const backup = /^ERROR: Backup of VM \d+ failed - (.*)$/.exec(line)?.[1];
    // tar says it so when only a part of a block could be written.
    const full = /No space left on device|out of space|Disk quota exceeded|^tar: .*: Wrote only \d+ of \d+ bytes/.test(
      line,
    );
    return [full ? "No space left on device" : undefined, backup].filter((words) => words !== undefined);
  });
}

/** Lines of a task's log that are quoted when it fails. */
export const LOG_TAIL_LINES = 8;

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

function refusedLogin({ login, path, url = "…" }: Asked, words: string): Failure {
  if (/csrf/i.test(words))
    return new Failure("csrf-refused", `the host refused the login's CSRF token: ${words}`, {
      advice: "run the command again",
    });
  const token = login.includes("!");
  const kind = path === "/access/ticket" || !token ? "user name or password" : "token id or secret";
  return new Failure("login-refused", `the host refused ${login}: ${words} (wrong ${kind}, expired or disabled)`, {
    advice: token
      ? `exitnode host add <name> --url ${url} --token '${login}'    (asks for the secret)\na new one, on the Proxmox host:\npveum user token add ${userOf(login)} <id> --privsep 1`
      : `exitnode host add <name> --url ${url} --user ${login}    (asks for the password)`,
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
    return new Failure("permission-missing", `${asked.login} may not ${asked.method} ${asked.path}: ${words}`, {
      advice: `${CHECK} says which privileges are missing`,
    });
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
  return new Failure(code ?? "parameters-refused", `${call} was refused: ${said}`, {
    advice: code === undefined ? `${CHECK}: Proxmox VE 8.4 or newer is needed` : undefined,
  });
}

const PARAMETER_CODES: readonly [string, RegExp, string][] = [
  ["vmid", /already exists/, "vmid-taken"],
  ["tokenid", /already exists/, "token-exists"],
  ["upid", /no such task/, "task-unknown"],
  ["upid", /unable to parse/, "upid-invalid"],
  ["skiplock", /Only root/, "root-only"],
];
