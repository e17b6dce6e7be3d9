import { assert } from "../kit/assert.js";
import { AEAD_SCRATCH_BYTES, open, sealRun } from "./wasm/aead.js";
import { assemble } from "./wasm/assembler.js";
import { sum } from "./wasm/checksum.js";

/**
 * ChaCha20-Poly1305 and the Internet checksum in WebAssembly SIMD, working in place on the packet engine's memory.
 * All positions are offsets in that memory.
 */
export const WASM_SCRATCH_BYTES = AEAD_SCRATCH_BYTES;

export interface WasmCrypto {
  /**
   * Seals `length` bytes at `at` and writes the tag after them. The key is 32 bytes at `keyAt`, the counter has two
   * halves of 32 bits.
   */
  seal(keyAt: number, low: number, high: number, at: number, length: number): void;
  /** Seals `count` packets of `length` bytes, `stride` ≥ length + 16 apart, under consecutive counters. */
  sealRun(keyAt: number, low: number, high: number, at: number, length: number, stride: number, count: number): void;
  /**
   * Opens `length` bytes of ciphertext that are followed by their tag. False for a forgery: its bytes are then zeros.
   * Either way the tag's place holds no tag any more.
   */
  open(keyAt: number, low: number, high: number, at: number, length: number): boolean;
  /** The ones' complement sum (RFC 1071) of the bytes and of `initial`, folded to 16 bits, not inverted. */
  sum(at: number, length: number, initial: number): number;
}

/** Undefined where this machine has no vector instructions for WebAssembly. `scratch`: WASM_SCRATCH_BYTES for ourselves. */
export function loadWasm(memory: WebAssembly.Memory, scratch: number): WasmCrypto | undefined {
  const routines = assemble({ sealRun: sealRun(scratch), open: open(scratch), sum: sum() });
  if (!WebAssembly.validate(routines)) return undefined;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(routines), { env: { memory } });
  const [run, opened, summed] = [exports["sealRun"], exports["open"], exports["sum"]];
  assert(isRoutine(run) && isRoutine(opened) && isRoutine(summed), "the module exports what was put into it");
  return {
    seal: (keyAt, low, high, at, length) => run(keyAt, low, high, at, length, 0, 1),
    sealRun: run,
    open: (keyAt, low, high, at, length) => opened(keyAt, low, high, at, length) === 1,
    sum: summed,
  };
}

type WasmRoutine = (...numbers: number[]) => number;

function isRoutine(exported: unknown): exported is WasmRoutine {
  return typeof exported === "function";
}
