import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { SECOND } from "../../kit/time.js";
import { digestOf, type GuestConfig, parseConfig, renderConfig } from "./guestconfig.js";
import { failed } from "./refusal.js";
import { writeWhole } from "./statefile.js";

/** How long an operation waits for another on the same container. */
const LOCK_WAIT_MS = 10 * SECOND;

export type Lock = "backup" | "create" | "disk" | "rollback" | "snapshot" | "snapshot-delete";

/** The containers' configuration files and who is working on them. */
export class Guests {
  readonly #folder: string;
  readonly #node: string;
  readonly #busy = new Set<number>();

  constructor(stateDir: string, node: string) {
    this.#folder = join(stateDir, "guests");
    this.#node = node;
  }

  list(): number[] {
    if (!existsSync(this.#folder)) return [];
    const names = readdirSync(this.#folder).filter((name) => /^\d+\.conf$/.test(name));
    return names.map((name) => Number.parseInt(name, 10)).sort((a, b) => a - b);
  }

  has(vmid: number): boolean {
    return existsSync(this.#path(vmid));
  }

  read(vmid: number): { config: GuestConfig; digest: string } {
    if (!this.has(vmid)) throw failed(`Configuration file 'nodes/${this.#node}/lxc/${vmid}.conf' does not exist`);
    const text = readFileSync(this.#path(vmid), "utf8");
    return { config: parseConfig(text), digest: digestOf(text) };
  }

  write(vmid: number, config: GuestConfig): void {
    writeWhole(this.#path(vmid), renderConfig(config), 0o640);
  }

  /** Marks the container as being worked on for longer than one change: until `unlock`, other work is refused. */
  lock(vmid: number, why: Lock): void {
    const { config } = this.read(vmid);
    refuseLocked(config);
    config.options.lock = why;
    this.write(vmid, config);
  }

  unlock(vmid: number): void {
    const { config } = this.read(vmid);
    delete config.options.lock;
    this.write(vmid, config);
  }

  remove(vmid: number): void {
    rmSync(this.#path(vmid), { force: true });
  }

  /** Runs the work while no other work on this container runs; waits its turn for ten seconds. */
  async locked<T>(vmid: number, work: () => Promise<T>): Promise<T> {
    for (const until = performance.now() + LOCK_WAIT_MS; this.#busy.has(vmid); await delay(100))
      if (performance.now() > until)
        throw failed(`can't lock file '/run/lock/lxc/pve-config-${vmid}.lock' - got timeout`);
    this.#busy.add(vmid);
    try {
      return await work();
    } finally {
      this.#busy.delete(vmid);
    }
  }

  #path(vmid: number): string {
    return join(this.#folder, `${vmid}.conf`);
  }
}

/** A lock left in the configuration refuses every change; only the node's shell can remove it. */
export function refuseLocked(config: GuestConfig): void {
  const lock = config.options.lock;
  if (lock !== undefined) throw failed(`CT is locked (${lock})`);
}
