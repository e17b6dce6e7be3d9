import { ACCELERATOR_ARENA_BYTES, type Accelerator, loadAccelerator } from "../sys/accelerator.js";
import type { Arena } from "../sys/arena.js";
import type { Libc } from "../sys/libc.js";
import { nodeAead } from "../wireguard/transportaead.js";
import { type ArenaAead, onBytes, oneByOne, type SingleAead } from "./arenaaead.js";
import { plainSum, type Sum } from "./checksums.js";
import type { Offload } from "./offloads.js";
import { loadWasm, WASM_SCRATCH_BYTES, type WasmCrypto } from "./wasmaead.js";

/** The fastest cipher and checksum there are, and which of them are missing. */
export type Ciphers = {
  readonly aead: ArenaAead;
  readonly sum: Sum;
  readonly accelerator: Accelerator | undefined;
  readonly missing: readonly Offload[];
};

const KEY_BYTES = 32;
export const CIPHERS_ARENA_BYTES = ACCELERATOR_ARENA_BYTES + WASM_SCRATCH_BYTES + 3 * KEY_BYTES;

export function loadCiphers(
  libc: Libc,
  arena: Arena,
  memory: WebAssembly.Memory,
  without: ReadonlySet<Offload>,
): Ciphers {
  const has = <Found>(offload: Offload, load: () => Found | undefined): Found | undefined =>
    without.has(offload) ? undefined : load();
  const wasm = has("wasm", () => loadWasm(memory, arena.take(WASM_SCRATCH_BYTES)));
  const accelerator = has("accelerator", () => loadAccelerator(libc, arena));
  const missing = Object.entries({ wasm, accelerator })
    .filter(([, found]) => found === undefined)
    .map(([name]) => name as Offload);
  const single = wasm === undefined ? onBytes(nodeAead, arena) : viaWasm(wasm, arena);
  const aead = accelerator === undefined ? oneByOne(single) : viaAccelerator(accelerator);
  return { aead, sum: wasm?.sum ?? plainSum(arena.view), accelerator, missing };
}

function viaAccelerator(accelerator: Accelerator): ArenaAead {
  return {
    seal: (key, { table, count }) => accelerator.seal(key, table, count),
    open: (key, { table, count }) => accelerator.open(key, table, count),
    forget: () => accelerator.forget(),
  };
}

function viaWasm(wasm: WasmCrypto, arena: Arena): SingleAead {
  const { bytes } = arena;
  const keyAt = arena.take(KEY_BYTES);
  let current: Uint8Array | undefined;
  const put = (key: Uint8Array): void => {
    if (key !== current) bytes.set(key, keyAt);
    current = key;
  };
  return {
    seal(key, high, low, at, length) {
      put(key);
      wasm.seal(keyAt, low, high, at, length);
    },
    open(key, high, low, at, length) {
      put(key);
      return wasm.open(keyAt, low, high, at, length);
    },
    forget() {
      bytes.fill(0, keyAt, keyAt + KEY_BYTES);
      current = undefined;
    },
  };
}
