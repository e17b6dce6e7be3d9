import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Arena } from "./arena.js";
import type { Address, Libc } from "./libc.js";

/**
 * accelerator.c, compiled beside the running file where the build machine had a C compiler: ChaCha20-Poly1305 for a
 * table of messages in one foreign call instead of four for each.
 */
export const ACCELERATOR_FILE = "accelerator.so";
const KEY_BYTES = 32;
export const ACCELERATOR_ARENA_BYTES = KEY_BYTES;

type Context = Address;
type RunCall = (context: Context, memory: Address, key: Address, messages: Address, count: number) => number;

export class Accelerator {
  readonly #arena: Arena;
  readonly #key: number;
  readonly #seal: RunCall;
  readonly #open: RunCall;
  readonly #forget: (sealing: Context, opening: Context) => void;
  readonly #sealing: Context;
  readonly #opening: Context;
  #used = false;

  /** Throws where it, or the library it calls, cannot be loaded. */
  constructor(libc: Libc, arena: Arena, file: string) {
    const c = libc.koffi.load(file);
    const run = ["uintptr_t", "uintptr_t", "uintptr_t", "uintptr_t", "int"];
    if (c.func("exn_open_library", "int", [])() !== 1) throw new Error("libcrypto lacks a function");
    const context = c.func("exn_context", "uintptr_t", ["int"]);
    this.#seal = c.func("exn_seal", "int", run) as RunCall;
    this.#open = c.func("exn_open", "void", run) as RunCall;
    this.#forget = c.func("exn_forget", "void", ["uintptr_t", "uintptr_t"]);
    this.#sealing = Number(context(1));
    this.#opening = Number(context(0));
    if (this.#sealing === 0 || this.#opening === 0) throw new Error("libcrypto has no ChaCha20-Poly1305");
    this.#arena = arena;
    this.#key = arena.take(KEY_BYTES);
  }

  /** Seals the messages of the table (layout: accelerator.c) in place. */
  seal(key: Uint8Array, table: number, count: number): void {
    const { base } = this.#arena;
    this.#arena.bytes.set(key, this.#key);
    this.#used = true;
    if (this.#seal(this.#sealing, base, base + this.#key, base + table, count) !== count)
      throw new Error("libcrypto does not seal");
  }

  /** Opens them in place and fills in which are genuine. */
  open(key: Uint8Array, table: number, count: number): void {
    const { base } = this.#arena;
    this.#arena.bytes.set(key, this.#key);
    this.#used = true;
    this.#open(this.#opening, base, base + this.#key, base + table, count);
  }

  /** Overwrites the keys that were used last. */
  forget(): void {
    if (!this.#used) return;
    this.#used = false;
    this.#arena.bytes.fill(0, this.#key, this.#key + KEY_BYTES);
    this.#forget(this.#sealing, this.#opening);
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
