import { isEngineThread, runWorker } from "../../src/engine/worker.js";
import { loadKoffi } from "../../src/sys/koffi.js";
import { loadLibc, O_CLOEXEC } from "../../src/sys/libc.js";

/** The engine's thread for tests: it alone moves into a network namespace first. */
const CLONE_NEWNET = 0x4000_0000;

function enter(place: string): void {
  const libc = loadLibc();
  const setns = loadKoffi().load("libc.so.6").func("setns", "int", ["int", "int"]) as (
    fd: number,
    kind: number,
  ) => number;
  const fd = libc.open(`/run/netns/${place}`, O_CLOEXEC);
  if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`cannot enter the place ${place}`);
  libc.close(fd);
}

/** Called by the thread that threadIn() describes. */
export function runIn(place: string): void {
  if (!isEngineThread()) return;
  enter(place);
  runWorker();
}

/** A thread's program that runs the engine inside a namespace; Node drops what follows a `?` in a file's URL. */
export const threadIn = (place: string): URL =>
  new URL(`data:text/javascript,import{runIn}from"${import.meta.url}";runIn("${place}")`);
