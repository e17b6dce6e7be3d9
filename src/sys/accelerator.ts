import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Arena } from "./arena.js";
import type { Address, Libc } from "./libc.js";

/**
 * accelerator.c, compiled beside the running file where the build machine had a C compiler: ChaCha20-Poly1305 for a
 * table of messages in one foreign call, and a wait that handles a lone packet.
 */
const ACCELERATOR_FILE = "accelerator.so";
const KEY_BYTES = 32;
export const ACCELERATOR_ARENA_BYTES = KEY_BYTES;

type WaitCall = (memory: Address, lone: Address, fds: Address, count: number, timeoutMs: number) => number;
type RunCall = (memory: Address, key: Address, messages: Address, count: number) => void;

export class Accelerator {
  readonly #arena: Arena;
  readonly #key: number;
  readonly #seal: RunCall;
  readonly #open: RunCall;
  readonly #level: (most: number) => number;
  readonly #wait: WaitCall;

  /** Throws where it cannot be loaded. */
  constructor(libc: Libc, arena: Arena, file: string) {
    const c = libc.koffi.load(file);
    const run = ["uintptr_t", "uintptr_t", "uintptr_t", "int"];
    this.#seal = c.func("exn_seal", "void", run) as RunCall;
    this.#open = c.func("exn_open", "void", run) as RunCall;
    this.#level = c.func("exn_level", "int", ["int"]);
    this.#wait = c.func("exn_wait", "int", ["uintptr_t", "uintptr_t", "uintptr_t", "int", "int"]) as WaitCall;
    this.#arena = arena;
    this.#key = arena.take(KEY_BYTES);
    this.level(2);
  }

  /** Seals the messages of the table (layout: accelerator.c) in place. */
  seal(key: Uint8Array, table: number, count: number): void {
    const { base, bytes } = this.#arena;
    bytes.set(key, this.#key);
    this.#seal(base, base + this.#key, base + table, count);
  }

  /** Opens them in place and fills in which are genuine; a forgery stays as it came. */
  open(key: Uint8Array, table: number, count: number): void {
    const { base, bytes } = this.#arena;
    bytes.set(key, this.#key);
    this.#open(base, base + this.#key, base + table, count);
  }

  /** poll(2), and what acceleratorlone.h says after a rest, by the table at `lone`. */
  wait(lone: number, fds: Address, count: number, timeoutMs: number): number {
    const { base } = this.#arena;
    return this.#wait(base, base + lone, fds, count, timeoutMs);
  }

  /** Overwrites the key that was used last. */
  forget(): void {
    this.#arena.bytes.fill(0, this.#key, this.#key + KEY_BYTES);
  }

  /**
   * Lets this process use vectors of at most 128 (0), 256 (1) or 512 bits (2), which is how it begins; what it then
   * uses, by what the machine has.
   */
  level(most: 0 | 1 | 2): number {
    return this.#level(most);
  }
}

/** Undefined where there is none, or none for this machine. */
export function loadAccelerator(libc: Libc, arena: Arena): Accelerator | undefined {
  const file = join(dirname(fileURLToPath(import.meta.url)), ACCELERATOR_FILE);
  if (!existsSync(file)) return undefined;
  try {
    return new Accelerator(libc, arena, file);
  } catch {
    return undefined;
  }
}
