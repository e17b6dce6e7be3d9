import { type FaultAct, Faults } from "../../src/lab/pve/fault.js";

/** What goes wrong with one step of a run: a call of the Proxmox API, a step over SSH, one of the coordinator. */
export type FaultKind =
  | "reset-before"
  | "reset-after"
  | "500"
  | "596"
  | "401"
  | "hang"
  /** From this call on nothing of the host answers. */
  | "outage"
  /** The program is killed before it asks, or once its request has gone out. */
  | "kill-before"
  | "kill-after"
  /** Of SSH: the connection is lost before the step was done, after it, or with half of the files pushed. */
  | "lost-before"
  | "lost-after"
  | "lost-half"
  | "refused";
export type Planned = { readonly step: string; readonly nth: number; readonly kind: FaultKind };

const NEVER = new Promise<never>(() => {});
const ACTS: Partial<Record<FaultKind, FaultAct>> = {
  "reset-before": { kind: "reset", when: "before" },
  "reset-after": { kind: "reset", when: "after" },
  "500": { kind: "answer", status: 500, reason: "unable to open database file", when: "before" },
  "596": { kind: "answer", status: 596, reason: "Connection timed out", when: "after" },
  "401": { kind: "answer", status: 401, reason: "permission denied - invalid PVE ticket", when: "before" },
  hang: { kind: "hang", when: "after" },
};

/** One run's weather: counts every step, and lets the planned one go wrong. */
export class Weather {
  readonly planned: Planned | undefined;
  /** Every step, in order. */
  readonly steps: string[] = [];
  readonly killed: Promise<"killed">;
  hit = false;
  dead = false;
  #out = false;
  #kill: () => void = () => {};
  readonly #asked = new Map<string, number>();
  readonly #arrived = new Map<string, number>();

  constructor(planned?: Planned) {
    this.planned = planned;
    this.killed = new Promise((resolve) => {
      this.#kill = () => resolve("killed");
    });
  }

  die(): Promise<never> {
    this.dead = true;
    this.#kill();
    return NEVER;
  }

  /** A step begins at the client: what goes wrong with it, if it is the one. After a kill nothing goes on. */
  async ask(step: string): Promise<FaultKind | undefined> {
    if (this.dead) return NEVER;
    this.steps.push(step);
    if (!this.#isIt(step, this.#asked)) return undefined;
    const kind = this.planned?.kind;
    this.hit = true;
    return kind === "kill-before" ? this.die() : kind;
  }

  /** The answer comes to nobody when the program was killed meanwhile. */
  async heard<T>(value: T): Promise<T> {
    return this.dead ? NEVER : value;
  }

  /** A call arrives at the host. */
  arrive(step: string): FaultAct | undefined {
    const kind = this.#isIt(step, this.#arrived) ? this.planned?.kind : undefined;
    if (kind === "outage") this.#out = true;
    if (kind === "kill-after") void this.die();
    if (this.#out) return { kind: "reset", when: "before" };
    return kind === undefined ? undefined : ACTS[kind];
  }

  #isIt(step: string, counts: Map<string, number>): boolean {
    const count = (counts.get(step) ?? 0) + 1;
    counts.set(step, count);
    return this.planned?.step === step && this.planned.nth === count;
  }
}

/** The weather at the host's server, which outlives a run. */
export class HostWeather extends Faults {
  current: Weather | undefined;
  /** Somebody else's doing, asked before the weather. */
  meanwhile: ((call: string) => FaultAct | undefined) | undefined;

  override next(call: string): FaultAct | undefined {
    return this.meanwhile?.(call) ?? this.current?.arrive(stepOf(call));
  }
}

/** "GET /nodes/pve1/tasks/UPID:…/log" → "GET /nodes/pve1/tasks/vzcreate/log"; names made by chance and by the clock go. */
export function stepOf(call: string): string {
  return call
    .replace(/UPID(?::|%3A)[^/]*/, (upid) => decodeURIComponent(upid).split(":")[5] ?? "task")
    .replace(/exitnode-[0-9a-f]{8}/, "NAME")
    .replace(/\/content\/.*vzdump-.*/, "/content/BACKUP");
}

const READS = ["reset-before", "500", "401", "outage", "kill-before"] as const;
/** A proxy's lost answer and a hang are met by the client in one way, wherever a read stands: once for each call. */
const READS_ONCE = ["596", "hang"] as const;
const WRITES = [...READS, ...READS_ONCE, "reset-after", "kill-after"] as const;
const SSH = ["lost-before", "lost-after", "hang", "refused", "kill-before", "kill-after"] as const;
const ELSEWHERE = ["lost-before", "lost-after", "500", "401", "hang", "kill-before", "kill-after"] as const;
const LOCAL = ["kill-before", "kill-after"] as const;
/** How often a call comes again depends on how long a task takes: of polls, the first two go wrong. */
const POLLS_MAX = 2;

/** Every step of a run with everything that can go wrong with it. */
export function matrixOf(steps: readonly string[]): Planned[] {
  const counts = new Map<string, number>();
  return steps.flatMap((step): Planned[] => {
    const nth = (counts.get(step) ?? 0) + 1;
    counts.set(step, nth);
    if (/\/tasks\/\w+\//.test(step) && nth > POLLS_MAX) return [];
    return kindsOf(step, nth).map((kind) => ({ step, nth, kind }));
  });
}

export const isLong = process.env.EXITNODE_LONG_TESTS === "1";
/** Steps that leave everything as it was. */
const LOOKS = /^(?:GET |ssh (?:open$|look$|sshd -t|nft -c )|coordinator list)/;
/** What a fault leaves of a step that is no call of the API. A kill before it leaves what one after the last step did. */
const LEAVES: Partial<Record<FaultKind, string>> = {
  "lost-before": "nothing",
  refused: "nothing",
  "500": "nothing",
  "401": "nothing",
  "lost-after": "all",
  hang: "all",
  "lost-half": "half",
  "kill-after": "all, and nobody to go on",
};

/** Of several faults one at a time: the kind that was met least so far. */
export class Turns {
  readonly #met = new Map<FaultKind, number>();

  next(faults: readonly Planned[]): Planned[] {
    const times = ({ kind }: Planned): number => this.#met.get(kind) ?? 0;
    const [least] = [...faults].sort((left, right) => times(left) - times(right));
    if (least === undefined) return [];
    this.#met.set(least.kind, times(least) + 1);
    return [least];
  }
}

/**
 * The whole matrix takes minutes and is met with EXITNODE_LONG_TESTS=1. Otherwise a step that only looks meets one of
 * its faults, in turn; a change asked of the API meets all of them; any other change one of each that leave the same.
 */
export function shortened(matrix: readonly Planned[]): readonly Planned[] {
  if (isLong) return matrix;
  const turns = new Turns();
  const alike = new Map<string, Planned[]>();
  for (const one of matrix) {
    const leaves = LOOKS.test(one.step) ? "nothing" : /^[A-Z]/.test(one.step) ? one.kind : LEAVES[one.kind];
    const key = `${one.step} ${one.nth} ${leaves}`;
    if (leaves !== undefined) alike.set(key, [...(alike.get(key) ?? []), one]);
  }
  return [...alike.values()].flatMap((faults) => turns.next(faults));
}

function kindsOf(step: string, nth: number): readonly FaultKind[] {
  if (step.startsWith("ssh push")) return [...SSH, "lost-half"];
  if (step.startsWith("ssh")) return SSH;
  if (step.startsWith("coordinator")) return ELSEWHERE;
  if (step.startsWith("here")) return LOCAL;
  if (!step.startsWith("GET")) return WRITES;
  return nth === 1 ? [...READS, ...READS_ONCE] : READS;
}
