import { readFileSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { Arena } from "../../src/sys/arena.js";
import { loadLibc } from "../../src/sys/libc.js";
import { Bell } from "../../src/sys/poll.js";
import { SOCKADDR_BYTES } from "../../src/sys/sockaddr.js";

/**
 * A thread beside the one that runs a DataPlane. It sends what it is given when that thread has been waiting in poll()
 * for more than a rest, and rings the bell when it waits there again, not still, with everything done.
 */
export type LateSenderData = { readonly bellFd: number; readonly sleeper: number };
/** `to` is a socket address; without one it is written. */
export type Late = { readonly fd: number; readonly bytes: Uint8Array; readonly to?: Uint8Array };

/** poll and ppoll of x86-64, ppoll of arm64. */
const POLLS = [7, 271, 73];
const REST_MS = 3;
const BYTES_MAX = 70_000;

if (workerData?.purpose === "late sender") {
  const { bellFd, sleeper } = workerData as LateSenderData;
  const libc = loadLibc();
  const arena = new Arena(libc, BYTES_MAX + SOCKADDR_BYTES);
  const bell = new Bell(libc, new Arena(libc, 16), bellFd);
  const pause = (ms: number): unknown => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  const told = (file: string): string => readFileSync(`/proc/self/task/${sleeper}/${file}`, "utf8");
  const untilItWaits = (): void => {
    while (!POLLS.includes(Number.parseInt(told("syscall"), 10))) pause(1);
  };
  /** How often it went to sleep so far: on a busy machine a datagram reaches it later than it was sent. */
  const sleeps = (): string => /^voluntary_ctxt_switches:.*/m.exec(told("status"))?.[0] ?? "";
  parentPort?.on("message", ({ fd, bytes, to }: Late) => {
    arena.bytes.set(bytes, SOCKADDR_BYTES);
    const at = arena.base + SOCKADDR_BYTES;
    untilItWaits();
    pause(REST_MS);
    const before = sleeps();
    if (to === undefined) libc.write(fd, at, bytes.length);
    else {
      arena.bytes.set(to);
      libc.sendto(fd, at, bytes.length, 0, arena.base, to.length);
    }
    while (sleeps() === before) pause(1);
    untilItWaits();
    bell.ring();
  });
}
