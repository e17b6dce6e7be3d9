import { type Random, systemRandom } from "../sys/random.js";

const POOL_BYTES = 4_096;

/** Strong random bytes out of a pool: timers ask for two of them per packet, and a system call each would show. */
export function pooledRandom(source: Random = systemRandom): Random {
  let pool = source(POOL_BYTES);
  let used = 0;
  return (length) => {
    if (length > POOL_BYTES / 8) return source(length);
    if (used + length > POOL_BYTES) {
      pool = source(POOL_BYTES);
      used = 0;
    }
    const bytes = pool.slice(used, used + length);
    // What was given out, a private key perhaps, does not stay behind.
    pool.fill(0, used, used + length);
    used += length;
    return bytes;
  };
}
