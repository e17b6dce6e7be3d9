import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { authId, type Caller } from "./permission.js";
import { badParameters } from "./refusal.js";

/** A unique process id: UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER: with the numbers in hex. */
export type Upid = {
  readonly upid: string;
  readonly node: string;
  readonly pid: number;
  readonly pstart: number;
  readonly starttime: number;
  readonly type: string;
  readonly id: string;
  readonly user: string;
  readonly tokenid?: string;
};
export type TaskWork = (log: TaskLog, signal: AbortSignal) => Promise<void>;
export type TaskLog = {
  line(text: string): void;
  /** Counted: the task ends "WARNINGS: n". */
  warn(text: string): void;
};
export type TaskState =
  | { readonly kind: "running" }
  | { readonly kind: "stopped"; readonly exit: string; readonly endtime: number };

type Known = { readonly upid: Upid; ended?: { exit: string; endtime: number } };

/** Finished tasks kept in the list; the oldest are no longer shown, their logs stay. */
const TASKS_LISTED_MAX = 1_000;

/** Tasks run inside this process; their logs are files that outlive it. */
export class Tasks {
  readonly #folder: string;
  readonly #node: string;
  readonly #running = new Map<string, AbortController>();
  readonly #work = new Set<Promise<void>>();
  readonly #known: Known[];
  #pid: number;

  constructor(stateDir: string, node: string) {
    this.#folder = join(stateDir, "tasks");
    this.#node = node;
    mkdirSync(this.#folder, { recursive: true });
    this.#known = this.#readIndex();
    this.#pid = 0x1000 + this.#known.length;
  }

  /** Starts the work and returns at once, as the API does. */
  start(type: string, id: string, caller: Caller, work: TaskWork): string {
    const now = Date.now();
    const hex = (value: number): string => value.toString(16).toUpperCase().padStart(8, "0");
    const pid = ++this.#pid;
    const pstart = Math.floor(process.uptime() * 100);
    const text = `UPID:${this.#node}:${hex(pid)}:${hex(pstart)}:${hex(Math.floor(now / 1_000))}:${type}:${id}:${authId(caller)}:`;
    const upid = parseUpid(text);
    const record: Known = { upid };
    this.#known.push(record);
    if (this.#known.length > TASKS_LISTED_MAX) this.#known.shift();
    appendFileSync(this.#index(), `${text}\n`);
    const abort = new AbortController();
    this.#running.set(text, abort);
    const finished = this.#run(upid, work, abort.signal).then((exit) => {
      const endtime = Math.floor(Date.now() / 1_000);
      record.ended = { exit, endtime };
      appendFileSync(this.#index(), `${text} ${endtime} ${exit}\n`);
      this.#running.delete(text);
      this.#work.delete(finished);
    });
    this.#work.add(finished);
    return text;
  }

  async #run(upid: Upid, work: TaskWork, signal: AbortSignal): Promise<string> {
    let warnings = 0;
    const write = (text: string): void => {
      appendFileSync(this.#logPath(upid), `${text.replaceAll("\n", " ")}\n`, { mode: 0o640 });
    };
    const log: TaskLog = {
      line: write,
      warn: (text) => {
        warnings++;
        write(`WARN: ${text}`);
      },
    };
    try {
      await work(log, signal);
      const exit = warnings === 0 ? "OK" : `WARNINGS: ${warnings}`;
      write(`TASK ${exit}`);
      return exit;
    } catch (error) {
      const text = (error instanceof Error ? error.message : String(error)).replaceAll("\n", " ").trim();
      write(`TASK ERROR: ${text}`);
      return text;
    }
  }

  find(upid: Upid): TaskState {
    const record = this.#known.find((known) => known.upid.upid === upid.upid);
    if (record === undefined && !existsSync(this.#logPath(upid))) throw badParameters({ upid: "no such task" });
    if (this.#running.has(upid.upid)) return { kind: "running" };
    return { kind: "stopped", exit: "unexpected status", endtime: upid.starttime, ...record?.ended };
  }

  log(upid: Upid): string[] {
    this.find(upid);
    if (!existsSync(this.#logPath(upid))) return [];
    return readFileSync(this.#logPath(upid), "utf8").split("\n").slice(0, -1);
  }

  abort(upid: Upid): void {
    this.find(upid);
    this.#running.get(upid.upid)?.abort();
  }

  /** Newest first. */
  list(): { upid: Upid; state: TaskState }[] {
    return this.#known.map(({ upid }) => ({ upid, state: this.find(upid) })).reverse();
  }

  /** Waits for what runs, after asking it to stop. */
  async close(): Promise<void> {
    for (const abort of this.#running.values()) abort.abort();
    await Promise.all(this.#work);
  }

  #index(): string {
    return join(this.#folder, "index");
  }

  #logPath(upid: Upid): string {
    return join(this.#folder, upid.upid.replaceAll("/", "_"));
  }

  #readIndex(): Known[] {
    if (!existsSync(this.#index())) return [];
    const records = new Map<string, Known>();
    for (const line of readFileSync(this.#index(), "utf8").split("\n")) {
      const [text = "", endtime, ...exit] = line.split(" ");
      if (text === "") continue;
      const record = records.get(text) ?? { upid: parseUpid(text) };
      if (endtime !== undefined) record.ended = { exit: exit.join(" "), endtime: Number(endtime) };
      records.set(text, record);
    }
    return [...records.values()].slice(-TASKS_LISTED_MAX);
  }
}

const UPID =
  /^UPID:([a-zA-Z0-9-]+):([0-9A-F]{8}):([0-9A-F]{8,9}):([0-9A-F]{8}):([^:\s/]+):([^:\s/]*):([^:\s!/]+)(?:!([^:\s/]+))?:$/i;

export function parseUpid(text: string): Upid {
  const match = UPID.exec(text);
  if (match === null) throw badParameters({ upid: "unable to parse worker upid" });
  const [, node = "", pid = "", pstart = "", starttime = "", type = "", id = "", user = "", tokenid] = match;
  const number = (hex: string): number => Number.parseInt(hex, 16);
  return {
    upid: text,
    node,
    pid: number(pid),
    pstart: number(pstart),
    starttime: number(starttime),
    type,
    id,
    user,
    ...(tokenid === undefined ? {} : { tokenid }),
  };
}
