import { loadKoffi } from "../../src/sys/koffi.js";
import { loadLibc, O_CLOEXEC } from "../../src/sys/libc.js";
import type { Place } from "./places.js";

const CLONE_NEWNET = 0x4000_0000;

/**
 * Opens sockets in a place: this thread goes there and comes back. A socket belongs to where it was made, so it can
 * be used from here afterwards. Nothing else may be started meanwhile.
 */
export async function insidePlace<T>(place: Pick<Place, "name">, work: () => Promise<T>): Promise<T> {
  const libc = loadLibc();
  const setns = loadKoffi().load("libc.so.6").func("setns", "int", ["int", "int"]) as (
    fd: number,
    kind: number,
  ) => number;
  const home = libc.open("/proc/thread-self/ns/net", O_CLOEXEC);
  const away = libc.open(`/run/netns/${place.name}`, O_CLOEXEC);
  let atHome = false;
  try {
    if (setns(away, CLONE_NEWNET) !== 0) throw new Error(`cannot enter the place ${place.name}`);
    const made = await work().finally(() => {
      atHome = setns(home, CLONE_NEWNET) === 0;
    });
    if (!atHome) throw new Error(`cannot come back from the place ${place.name}`);
    return made;
  } finally {
    libc.close(home);
    libc.close(away);
  }
}
