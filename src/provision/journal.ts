import { join } from "node:path";
import * as z from "zod";
import { tryJson } from "../kit/json.js";
import type { Files } from "../sys/files.js";

/**
 * What a run was about to do, written before it and after it: <state>/journal/<host>-<name>.jsonl.
 *
 * Not the truth (that is on the host) but the intent: it tells a container that is still being made, which has no
 * description yet, from somebody else's, and one that no run ever finished from one that worked.
 */
const entry = z.object({
  at: z.number(),
  step: z.string(),
  phase: z.enum(["begin", "done", "failed"]),
  seconds: z.number().optional(),
  error: z.string().optional(),
  vmid: z.number().optional(),
  node: z.string().optional(),
  id: z.string().optional(),
});
export type JournalEntry = z.infer<typeof entry>;

const JOURNAL_LINES_MAX = 400;

/** A create that was begun and never came to a working exit node. */
export type Intent = { readonly id: string; readonly vmid: number; readonly node: string };

export class Journal {
  readonly #files: Files;
  readonly #path: string;
  #entries: JournalEntry[];

  private constructor(files: Files, path: string, entries: JournalEntry[]) {
    this.#files = files;
    this.#path = path;
    this.#entries = entries;
  }

  static async open(files: Files, folder: string, host: string, name: string): Promise<Journal> {
    const path = join(folder, `${host}-${name}.jsonl`);
    const lines = ((await files.readText(path)) ?? "").split("\n");
    // A line that does not parse is one that a crash cut off: the step it told of is looked for on the host anyway.
    const entries = lines.flatMap((line) => {
      const parsed = entry.safeParse(tryJson(line));
      return parsed.success ? [parsed.data] : [];
    });
    return new Journal(files, path, entries);
  }

  async add(added: JournalEntry): Promise<void> {
    this.#entries = [...this.#entries, added].slice(-JOURNAL_LINES_MAX);
    await this.#files.write(this.#path, `${this.#entries.map((one) => JSON.stringify(one)).join("\n")}\n`, {
      mode: 0o600,
    });
  }

  /** The last create that was begun, unless an exit node worked or was destroyed since. */
  get intent(): Intent | undefined {
    const at = this.#entries.findLastIndex((one) => one.step === "create-container" && one.phase === "begin");
    const begun = this.#entries[at];
    if (begun?.id === undefined || begun.vmid === undefined || begun.node === undefined) return undefined;
    if (this.#entries.slice(at).some((one) => ENDS.has(one.step) && one.phase === "done")) return undefined;
    return { id: begun.id, vmid: begun.vmid, node: begun.node };
  }

  /** No run was begun since the exit node was taken away. */
  get isEmpty(): boolean {
    return this.#entries.length === 0;
  }

  /** The coordinator in the configuration was one in this exit node's container. */
  get heldCoordinator(): boolean {
    return this.#entries.some((one) => one.step === "record-coordinator" && one.phase === "done");
  }

  async remove(): Promise<void> {
    this.#entries = [];
    await this.#files.remove(this.#path);
  }
}

/** Steps that settle an intent. */
const ENDS = new Set(["usable", "undo"]);
