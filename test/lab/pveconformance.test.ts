import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { OutgoingHttpHeaders } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { prepareAccess } from "../../src/lab/pve/access.js";
import { readCertificate } from "../../src/lab/pve/certificate.js";
import { openPve, type Pve } from "../../src/lab/pve/pve.js";
import { closePve, listenPve } from "../../src/lab/pve/server.js";
import { LOCAL_ENTRY } from "../../src/lab/pve/storage.js";
import { ModelRuntime } from "./pvemodel.js";
import { type Answer, formOf, sendRaw } from "./pverequest.js";

/**
 * Requests that a genuine Proxmox VE 9.2 answered, sent in the order they were recorded in. What must be equal: status,
 * reason phrase, every error text, the kind of body, how tasks end, and that nothing recorded is missing from an answer.
 * Creates are real as far as the root directory goes; starting is modelled.
 */
type Recorded = {
  label: string;
  as: string;
  verb: string;
  path: string;
  params?: Record<string, unknown>;
  json?: 1;
  csrf?: "missing" | "wrong";
  authorization?: string;
  oldSecret?: 1;
  multipart?: { fields: Record<string, string>; file: { name: string; bytes: number } };
  raw?: "chunked" | "body" | "large" | "text";
  status: number;
  reason: string;
  body?: "empty" | "text";
  errors?: Record<string, string>;
  message?: string;
  total?: 1;
  data?: Shape;
  upid?: string;
  exitstatus?: string;
  /** Lines that the task's log holds, in this order. */
  log?: string[];
  /** The name of the backup that the task made. */
  archive?: string;
  /** The start that an earlier step asked for has ended by now. */
  started?: 1;
};
type Shape = string | Shape[] | { [key: string]: Shape };

/** Recorded steps that cannot come out equal here, and why. */
const DIFFERENT: Readonly<Record<string, string>> = {
  "node network any_bridge": "shows the bridges of the machine the test runs on, which may have none",
};

const recorded = JSON.parse(readFileSync("test/data/pve/exchanges.json", "utf8")) as Recorded[];
const skip = process.getuid?.() === 0 ? false : "unpacking as the containers' root needs root";
let folder: string;
let pve: Pve;
let server: Awaited<ReturnType<typeof listenPve>>;
const passwords: Record<string, string> = {
  "<wrong password>": "not the password",
  "<password of rm@pve>": "a-password-of-rm",
};
const secrets: Record<string, string> = {};
const oldSecrets: Record<string, string> = {};
const tickets: Record<string, { ticket: string; csrf: string }> = {};
/** Tasks and backups: what they are called here and there. */
const names: [recorded: string, ours: string][] = [];

before(async () => {
  if (skip) return;
  folder = mkdtempSync("/var/tmp/exn-pve-");
  const [stateDir, storageDir, tree] = ["state", "storage", "tree"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  for (const path of ["etc/ssh", "root", "usr/lib/systemd"]) mkdirSync(join(tree, path), { recursive: true });
  mkdirSync(join(storageDir, "local/template/cache"), { recursive: true });
  writeFileSync(join(tree, "etc/os-release"), "ID=debian\nVERSION_ID=13\n");
  writeFileSync(join(tree, "usr/lib/systemd/systemd"), "");
  const archive = join(storageDir, "local/template/cache/lab_13.0-1_amd64.tar.zst");
  execFileSync("tar", ["-C", tree, "-I", "zstd", "-cf", archive, "."]);
  execFileSync("chmod", ["755", folder]);
  passwords["<root password>"] = (await prepareAccess(stateDir)).rootPassword;
  const certificate = await readCertificate(stateDir, "pve1");
  const runtime = new ModelRuntime();
  pve = openPve({
    nodeName: "pve1",
    stateDir,
    storageDir,
    runtime,
    fingerprint: certificate.fingerprint,
    address: "127.0.0.1",
    storages: [LOCAL_ENTRY, { id: "btr", type: "btrfs", content: ["rootdir", "images"] }],
  });
  server = await listenPve(pve, { certificate, address: "127.0.0.1", port: 0, delayMs: 0 });
});

after(async () => {
  if (skip) return;
  await closePve(pve, server);
  rmSync(folder, { recursive: true, force: true });
});

test("answers as the recorded Proxmox VE answered", { skip, timeout: 300_000 }, async (t) => {
  const wrong: string[] = [];
  for (const step of recorded) {
    const answer = await ask(step);
    learn(step, answer);
    const difference = differenceOf(step, answer);
    if (difference !== undefined && !(step.label in DIFFERENT)) wrong.push(`${step.label}: ${difference}`);
  }
  const excused = recorded.filter(({ label }) => label in DIFFERENT).length;
  t.diagnostic(`${recorded.length - excused - wrong.length} of ${recorded.length} recorded exchanges come out equal`);
  assert.deepEqual(wrong, []);
});

async function ask(step: Recorded): Promise<Answer> {
  let path = step.path;
  path = translated(path);
  // The recorded stop came long after the create that also started: here that start may still be under way.
  if (step.started || (step.verb === "POST" && path.endsWith("/status/stop") && step.status === 200))
    await started(path);
  for (const until = performance.now() + 30_000; ; await delay(50)) {
    const answer = await send(step, path);
    const running = (answer.body.data as { status?: string } | null)?.status === "running";
    if (!step.label.includes("(poll, final)") || !running || performance.now() > until) return answer;
  }
}

async function started(path: string): Promise<void> {
  const vmid = Number(/lxc\/(\d+)/.exec(path)?.[1]);
  for (const until = performance.now() + 60_000; pve.runtime.running(vmid) === undefined; await delay(20))
    if (performance.now() > until) return;
}

/** With our names of tasks and backups in the place of those recorded. */
function translated(text: string): string {
  return names.reduce(
    (now, [theirs, ours]) => now.replaceAll(theirs, ours).replaceAll(encode(theirs), encode(ours)),
    text,
  );
}

/** As the recorded client encoded: "!" stays. */
const encode = (upid: string): string => encodeURIComponent(upid);

async function send(step: Recorded, path: string): Promise<Answer> {
  const headers = credentials(step);
  if (step.raw === "chunked")
    return sendRaw(
      server,
      step.verb,
      path,
      { ...headers, "Transfer-Encoding": "chunked", "Content-Type": "application/x-www-form-urlencoded" },
      "a=b",
    );
  if (step.raw === "body")
    return sendRaw(
      server,
      step.verb,
      path,
      { ...headers, "Content-Type": "application/x-www-form-urlencoded" },
      "force=1",
    );
  if (step.raw === "text")
    return sendRaw(server, step.verb, path, { ...headers, "Content-Type": "text/plain" }, "vmid=1");
  if (step.raw === "large")
    return sendRaw(
      server,
      step.verb,
      path,
      { ...headers, "Content-Type": "application/x-www-form-urlencoded" },
      `description=${"x".repeat(600_000)}`,
    );
  if (step.multipart !== undefined) return sendMultipart(step, path, headers);
  if (step.params === undefined) return sendRaw(server, step.verb, path, headers, "");
  const params = Object.fromEntries(Object.entries(step.params).map(([key, value]) => [key, actual(value, step)]));
  const type = step.json ? "application/json" : "application/x-www-form-urlencoded";
  return sendRaw(
    server,
    step.verb,
    path,
    { ...headers, "Content-Type": type },
    step.json ? JSON.stringify(params) : formOf(params),
  );
}

function actual(value: unknown, step: Recorded): unknown {
  if (value === "<ticket>") return tickets["root@pam"]?.ticket;
  if (step.path.endsWith("/config") && typeof value === "string" && /^[0-9a-f]{40}$/.test(value) && !/^0+$/.test(value))
    return step.label.includes("right digest") ? pve.guests.read(101).digest : value;
  return passwords[String(value)] ?? (typeof value === "string" ? translated(value) : value);
}

function credentials(step: Recorded): OutgoingHttpHeaders {
  if (step.as === "nobody") return {};
  if (step.authorization !== undefined) return { Authorization: step.authorization };
  if (step.as === "bad ticket") return { Cookie: "PVEAuthCookie=PVE%3Aroot%40pam%3A6B02E968%3A%3Anonsense" };
  if (step.as.includes("!"))
    return { Authorization: `PVEAPIToken=${step.as}=${(step.oldSecret ? oldSecrets : secrets)[step.as]}` };
  const held = tickets[step.as];
  const csrf =
    step.csrf === "missing" ? {} : { CSRFPreventionToken: step.csrf === "wrong" ? "6B02E968:wrong" : held?.csrf };
  return { Cookie: `PVEAuthCookie=${encodeURIComponent(held?.ticket ?? "")}`, ...csrf };
}

function sendMultipart(step: Recorded, path: string, headers: OutgoingHttpHeaders): Promise<Answer> {
  const { fields, file } = step.multipart ?? { fields: {}, file: { name: "", bytes: 0 } };
  const content = Buffer.alloc(file.bytes, 0x61);
  const sum = createHash("sha256").update(content).digest("hex");
  const parts = Object.entries(fields).map(
    ([name, value]) =>
      `--b0\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value.replace("<sha256>", sum)}\r\n`,
  );
  const head = `${parts.join("")}--b0\r\nContent-Disposition: form-data; name="filename"; filename="${file.name}"\r\nContent-Type: application/octet-stream\r\n\r\n`;
  const body = Buffer.concat([Buffer.from(head), content, Buffer.from("\r\n--b0--\r\n")]);
  return sendRaw(server, "POST", path, { ...headers, "Content-Type": "multipart/form-data; boundary=b0" }, body);
}

/** Secrets, tickets and task names of ours, for the steps that follow. */
function learn(step: Recorded, { body }: Answer): void {
  const data = body.data;
  if (step.upid !== undefined && typeof data === "string") names.push([step.upid, data]);
  const archive = /'\S+\/(vzdump-lxc-[\d_-]+)\.tar/.exec(logOf(data).join("\n"))?.[1];
  if (step.archive !== undefined && archive !== undefined) names.push([step.archive, archive]);
  if (typeof data !== "object" || data === null) return;
  const { ticket, CSRFPreventionToken, username, value, "full-tokenid": id } = data as Record<string, string>;
  if (ticket !== undefined && username !== undefined) tickets[username] = { ticket, csrf: CSRFPreventionToken ?? "" };
  if (value !== undefined && id !== undefined) {
    oldSecrets[id] = secrets[id] ?? "";
    secrets[id] = value;
  }
}

function differenceOf(step: Recorded, answer: Answer): string | undefined {
  if (answer.status !== step.status || plain(answer.reason) !== plain(step.reason))
    return `${answer.status} ${answer.reason}, recorded ${step.status} ${step.reason}; ${answer.text.slice(0, 300)}`;
  if (step.body === "empty") return answer.text === "" ? undefined : `body ${answer.text}, recorded none`;
  if (step.body === "text") return answer.text === step.reason ? undefined : `body ${answer.text}`;
  const { errors, message, data, total } = answer.body;
  if (JSON.stringify(sorted(errors)) !== JSON.stringify(sorted(step.errors)))
    return `errors ${JSON.stringify(errors)}, recorded ${JSON.stringify(step.errors)}`;
  if (step.message !== undefined && plain(String(message)) !== plain(step.message)) return `message ${message}`;
  if (step.total !== undefined && typeof total !== "number") return "no total";
  if (step.exitstatus !== undefined) {
    const exit = (data as Record<string, string>).exitstatus;
    if (plain(String(exit)) !== plain(translated(step.exitstatus)))
      return `task ended ${exit}, recorded ${step.exitstatus}`;
  }
  if (step.upid !== undefined && !/^UPID:pve1:[0-9A-F]{8}:[0-9A-F]{8,9}:[0-9A-F]{8}:/.test(String(data)))
    return `no task: ${data}`;
  if (step.upid !== undefined && String(data).split(":").slice(5).join() !== step.upid.split(":").slice(5).join())
    return `task ${data}`;
  const lines = logOf(data).map(constant);
  let at = 0;
  for (const line of step.log ?? []) {
    const found = lines.indexOf(constant(line), at);
    if (found < 0) return `the log lacks "${line}" after line ${at}:\n${logOf(data).join("\n")}`;
    at = found + 1;
  }
  return step.data === undefined ? undefined : missingIn(step.data, data, "data");
}

function logOf(data: unknown): string[] {
  return Array.isArray(data) ? data.map((line: { t?: unknown }) => String(line?.t)) : [];
}

/** A line of a log without what no two runs have in common: numbers, sizes, names made of the time. */
const constant = (line: string): string =>
  plain(line)
    .replace(/vzdump-lxc-(\d+)-[\d_-]+/g, "vzdump-lxc-$1-TIME")
    .replace(/\d[\d_:.-]*(?: ?[KMG]i?B?(?: bytes)?)?/g, "N");

/** What was recorded and is not here, or is here of another type. Null stands for unknown on either side. */
function missingIn(shape: Shape, value: unknown, at: string): string | undefined {
  if (shape === "null" || value === null)
    return shape === "null" && value !== null && at === "data" ? `${at} is not null` : undefined;
  if (typeof shape === "string") {
    const type = typeof value === "string" ? "text" : typeof value;
    return type === shape ? undefined : `${at} is ${type}, recorded ${shape}`;
  }
  if (Array.isArray(shape)) {
    if (!Array.isArray(value)) return `${at} is no list`;
    if (shape.length > 0 && value.length === 0) return `${at} is empty`;
    return shape[0] === undefined ? undefined : missingIn(shape[0], value[0], `${at}[0]`);
  }
  for (const [key, inner] of Object.entries(shape)) {
    const found = (value as Record<string, unknown>)[key];
    if (found === undefined) return `${at}.${key} is missing`;
    const missing = missingIn(inner, found, `${at}.${key}`);
    if (missing !== undefined) return missing;
  }
  return undefined;
}

const sorted = (errors: unknown): unknown =>
  errors === undefined ? undefined : Object.entries(errors as object).sort();

/** Without what differs between two machines: folders, checksums, and how a resolver fails. */
const plain = (text: string): string =>
  text
    .replaceAll(folder, "")
    .replaceAll("/storage/local/", "/var/lib/vz/")
    .replace(/(?:[0-9a-f]{64}|<sha256>)(?=')/g, "")
    .replace("Temporary failure in name resolution", "Name or service not known");
