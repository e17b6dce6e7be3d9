import type { Arena } from "../sys/arena.js";
import type { Libc } from "../sys/libc.js";
import { LIBCRYPTO_ARENA_BYTES, loadLibcrypto } from "../sys/libcrypto.js";
import { counterOf } from "../wireguard/keypairs.js";
import { nodeAead } from "../wireguard/transportaead.js";
import type { ArenaAead } from "./arenaaead.js";
import { plainSum, type Sum } from "./checksums.js";
import type { Offload } from "./offloads.js";
import { loadWasm, WASM_SCRATCH_BYTES, type WasmCrypto } from "./wasmaead.js";

/** The fastest cipher and checksum there are, and which of them are missing. */
export type Ciphers = { readonly aead: ArenaAead; readonly sum: Sum; readonly missing: readonly Offload[] };

const KEY_BYTES = 32;
const TAG_BYTES = 16;
export const CIPHERS_ARENA_BYTES = LIBCRYPTO_ARENA_BYTES + WASM_SCRATCH_BYTES + 3 * KEY_BYTES;

export function loadCiphers(
  libc: Libc,
  arena: Arena,
  memory: WebAssembly.Memory,
  without: ReadonlySet<Offload>,
): Ciphers {
  const wasm = without.has("wasm") ? undefined : loadWasm(memory, arena.take(WASM_SCRATCH_BYTES));
  const libcrypto = without.has("libcrypto") ? undefined : loadLibcrypto(libc, arena);
  const missing: Offload[] = [
    ...(libcrypto === undefined ? ["libcrypto" as const] : []),
    ...(wasm === undefined ? ["wasm" as const] : []),
  ];
  const aead = libcrypto ?? (wasm === undefined ? viaNode(arena) : viaWasm(wasm, arena));
  return { aead, sum: wasm?.sum ?? plainSum(arena.view), missing };
}

function viaWasm(wasm: WasmCrypto, arena: Arena): ArenaAead {
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

function viaNode({ bytes }: Arena): ArenaAead {
  return {
    seal(key, high, low, at, length) {
      nodeAead.seal(key, counterOf(high, low), bytes.subarray(at, at + length), bytes, at);
    },
    open(key, high, low, at, length) {
      const sealed = bytes.subarray(at, at + length + TAG_BYTES);
      return nodeAead.open(key, counterOf(high, low), sealed, bytes, at) >= 0;
    },
    forget() {
      // It keeps no key.
    },
  };
}
