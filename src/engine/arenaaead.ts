import type { Arena } from "../sys/arena.js";
import { counterOf } from "../wireguard/keypairs.js";
import type { TransportAead } from "../wireguard/transportaead.js";
import { MessageRun } from "./messagerun.js";

/** ChaCha20-Poly1305 on messages where they lie in the arena: each is so many bytes and the tag behind them. */
export interface ArenaAead {
  seal(key: Uint8Array, run: MessageRun): void;
  /** Judges every message of the run; a forgery's place then holds nonsense. */
  open(key: Uint8Array, run: MessageRun): void;
  /** Overwrites what it remembers of keys. */
  forget(): void;
}

/** A cipher that takes one message at a time. */
export interface SingleAead {
  seal(key: Uint8Array, high: number, low: number, at: number, length: number): void;
  open(key: Uint8Array, high: number, low: number, at: number, length: number): boolean;
  forget(): void;
}

export function oneByOne(single: SingleAead): ArenaAead {
  return {
    seal(key, run) {
      for (let i = 0; i < run.count; i++) single.seal(key, run.high(i), run.low(i), run.at(i), run.length(i));
    },
    open(key, run) {
      for (let i = 0; i < run.count; i++)
        run.judge(i, single.open(key, run.high(i), run.low(i), run.at(i), run.length(i)));
    },
    forget: () => single.forget(),
  };
}

const TAG_BYTES = 16;

/** The same cipher for the protocol core's few messages of its own, which lie elsewhere, by way of `scratch`. */
export function copyingAead(aead: ArenaAead, arena: Arena, scratch: number): TransportAead {
  const { bytes } = arena;
  const run = new MessageRun(arena);
  const lay = (counter: bigint | number, length: number): MessageRun => {
    const exact = BigInt(counter);
    run.clear();
    run.add(scratch, length, Number(exact >> 32n), Number(exact & 0xffff_ffffn));
    return run;
  };
  return {
    seal(key, counter, plaintext, into, at) {
      bytes.set(plaintext, scratch);
      aead.seal(key, lay(counter, plaintext.length));
      into.set(bytes.subarray(scratch, scratch + plaintext.length + TAG_BYTES), at);
    },
    open(key, counter, ciphertext, into, at) {
      const length = ciphertext.length - TAG_BYTES;
      if (length < 0) return -1;
      bytes.set(ciphertext, scratch);
      aead.open(key, lay(counter, length));
      if (!run.genuine(0)) return -1;
      into.set(bytes.subarray(scratch, scratch + length), at);
      return length;
    },
  };
}

/** One message at a time through a cipher on byte arrays. */
export function onBytes(aead: TransportAead, { bytes }: Arena): SingleAead {
  return {
    seal(key, high, low, at, length) {
      aead.seal(key, counterOf(high, low), bytes.subarray(at, at + length), bytes, at);
    },
    open(key, high, low, at, length) {
      const sealed = bytes.subarray(at, at + length + TAG_BYTES);
      return aead.open(key, counterOf(high, low), sealed, bytes, at) >= 0;
    },
    forget() {
      // It keeps no key.
    },
  };
}
